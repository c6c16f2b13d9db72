//! The final norm and the LM head with their backward pass, by the CPU kernels.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::BufferPool;
use super::rms_norm::RmsNorm;
use crate::kernels::gemm;
use crate::training::floats::floats;
use crate::training::gradients::Gradients;
use crate::training::lm_head::{TokenStats, row_backward};
use crate::training::trainable::{DetachedWeights, TrainableModel};
use crate::vlm::named_tensors::NamedTensors;

/// Largest number of logits in memory, and the smallest number of targets per slice: with fewer,
/// packing the projection would take longer than the product with it.
const LOGITS: usize = 1 << 22;
const TARGETS: usize = 128;
/// Elements of the projection that are packed at once. Sums continue over slices in order.
const SLICE: usize = 1 << 21;

/// The final norm, the projection and the temperature of the softmax.
pub(crate) struct NormAndHead<'a> {
    buffers: &'a BufferPool,
    norm: RmsNorm,
    name: &'a str,
    weight: Tensor,
    is_trained: bool,
    temperature: f64,
}

impl<'a> NormAndHead<'a> {
    /// Loads the final norm and the projection `name`, `[vocabulary, hidden]`.
    pub(crate) fn new(
        weights: &TrainableModel,
        buffers: &'a BufferPool,
        name: &'a str,
        temperature: f64,
    ) -> Result<Self> {
        let eps = weights.config().text.rms_norm_eps;
        let norm = RmsNorm::new(weights, "model.norm.weight".to_owned(), eps)?;
        let weight = DetachedWeights(weights).tensor(name)?.contiguous()?;
        Ok(Self { buffers, norm, name, weight, is_trained: weights.is_trained(name), temperature })
    }

    /// Returns the statistics of every target and the gradient of `x`, `[targets, hidden]`, whose
    /// rows predict the targets; `gradient(i, logprob)` is the derivative of the loss with respect
    /// to the log-probability of target `i`.
    pub(crate) fn forward_backward(
        &self,
        x: &[f32],
        targets: &[u32],
        gradient: &(dyn Fn(usize, f32) -> f32 + Sync),
        gradients: &mut Gradients,
    ) -> Result<(Vec<TokenStats>, Vec<f32>)> {
        let (vocabulary, hidden) = self.weight.dims2()?;
        let (mut normed, mut d_normed) = (self.buffers.take(x.len()), self.buffers.take(x.len()));
        self.norm.forward(x, &mut normed)?;
        let at_once = (LOGITS / vocabulary.max(1)).max(TARGETS).min(targets.len().max(1));
        let (mut logits, mut back) = (self.buffers.take(at_once * vocabulary), self.buffers.take(at_once * vocabulary));
        let mut stats = Vec::with_capacity(targets.len());
        let scale = 1.0 / self.temperature;
        let pieces = normed.chunks(at_once * hidden).zip(d_normed.chunks_mut(at_once * hidden));
        for (targets, (x, dx)) in targets.chunks(at_once).zip(pieces) {
            let first = stats.len();
            let (logits, back) = (&mut logits[..targets.len() * vocabulary], &mut back[..targets.len() * vocabulary]);
            self.logits(x, logits)?;
            let rows = logits.par_chunks_exact(vocabulary).zip(back.par_chunks_exact_mut(vocabulary));
            let piece: Vec<TokenStats> = (rows.zip(targets).enumerate())
                .map(|(i, ((row, out), target))| {
                    row_backward(row, *target, scale, |logprob| gradient(first + i, logprob), out)
                })
                .collect();
            stats.extend(piece);
            self.input_gradient(back, dx)?;
            if self.is_trained {
                let x = self.buffers.pack_transposed(x, targets.len(), hidden);
                gradients.with_sum(self.name, self.weight.shape(), |sum| {
                    gemm::add_weight_gradient(back, vocabulary, &x, sum);
                })?;
            }
        }
        let mut dx = vec![0f32; x.len()];
        self.norm.backward(x, &d_normed, &mut dx, gradients)?;
        self.buffers.put_back([normed, d_normed, logits, back]);
        Ok((stats, dx))
    }

    /// Computes logits: `[rows, hidden]` to `[rows, vocabulary]`.
    fn logits(&self, x: &[f32], logits: &mut [f32]) -> Result<()> {
        let (vocabulary, hidden) = self.weight.dims2()?;
        let weight = floats(&self.weight)?;
        let words = rows_per_slice(hidden);
        if words >= vocabulary {
            gemm::linear(x, hidden, &self.buffers.pack(&weight, vocabulary, hidden), None, logits);
            return Ok(());
        }
        let mut part = self.buffers.take(x.len() / hidden * words);
        for (i, weight) in weight.chunks(words * hidden).enumerate() {
            let words_here = weight.len() / hidden;
            let part = &mut part[..x.len() / hidden * words_here];
            gemm::linear(x, hidden, &self.buffers.pack(weight, words_here, hidden), None, part);
            for (row, part) in logits.chunks_exact_mut(vocabulary).zip(part.chunks_exact(words_here)) {
                row[i * words..][..words_here].copy_from_slice(part);
            }
        }
        self.buffers.put_back([part]);
        Ok(())
    }

    /// Computes the gradient of `[rows, hidden]` from that of the logits, `[rows, vocabulary]`.
    fn input_gradient(&self, back: &[f32], dx: &mut [f32]) -> Result<()> {
        let (vocabulary, hidden) = self.weight.dims2()?;
        let weight = floats(&self.weight)?;
        let words = rows_per_slice(hidden);
        for (i, weight) in weight.chunks(words * hidden).enumerate() {
            let transposed = self.buffers.pack_transposed(weight, weight.len() / hidden, hidden);
            match i {
                0 => gemm::linear(back, vocabulary, &transposed, None, dx),
                _ => gemm::add_linear(&back[i * words..], vocabulary, &transposed, dx),
            }
        }
        Ok(())
    }
}

/// Returns the number of the projection's rows that are packed at once.
fn rows_per_slice(hidden: usize) -> usize {
    (SLICE / hidden.max(1)).max(1)
}
