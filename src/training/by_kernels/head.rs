//! The last norm and projection, and the way back from the log-probabilities of the targets.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::norm::Norm;
use super::{Buffers, floats};
use crate::kernels::gemm;
use crate::training::gradients::Gradients;
use crate::training::head::{TokenFigures, back_row};
use crate::training::trainable::{Detached, Trainable};
use crate::vlm::named_tensors::NamedTensors;

/// Logits that are alive at once.
const LOGITS: usize = 1 << 22;

/// The norm, the projection and the temperature of its distribution.
pub(in crate::training) struct Head<'a> {
    norm: Norm,
    name: &'a str,
    weight: Tensor,
    trains: bool,
    temperature: f64,
}

impl<'a> Head<'a> {
    /// With the projection `name`, `[vocabulary, hidden]`.
    pub(in crate::training) fn new(weights: &Trainable, name: &'a str, temperature: f64) -> Result<Self> {
        let eps = weights.config().text.rms_norm_eps;
        let norm = Norm::new(weights, "model.norm.weight".to_owned(), eps)?;
        let weight = Detached(weights).tensor(name)?.contiguous()?;
        Ok(Self { norm, name, weight, trains: weights.trains(name), temperature })
    }

    /// The figures of every target and the gradient by the rows of `x` that predict them, `[targets, hidden]`;
    /// `gradient(i, logprob)` is the derivative of the loss by the log-probability of target `i`.
    pub(in crate::training) fn forward_backward(
        &self,
        x: &[f32],
        targets: &[u32],
        gradient: &(dyn Fn(usize, f32) -> f32 + Sync),
        buffers: &Buffers,
        gradients: &mut Gradients,
    ) -> Result<(Vec<TokenFigures>, Vec<f32>)> {
        let (vocabulary, hidden) = self.weight.dims2()?;
        let weight = floats(&self.weight)?;
        let packed = buffers.pack(&weight, vocabulary, hidden);
        let transposed = buffers.pack_transposed(&weight, vocabulary, hidden);
        let (mut normed, mut by_normed) = (buffers.take(x.len()), buffers.take(x.len()));
        self.norm.forward(x, &mut normed)?;
        let at_once = (LOGITS / vocabulary.max(1)).clamp(1, targets.len().max(1));
        let (mut logits, mut back) = (buffers.take(at_once * vocabulary), buffers.take(at_once * vocabulary));
        let mut figures = Vec::with_capacity(targets.len());
        let scale = 1.0 / self.temperature;
        let pieces = normed.chunks(at_once * hidden).zip(by_normed.chunks_mut(at_once * hidden));
        for (targets, (x, dx)) in targets.chunks(at_once).zip(pieces) {
            let first = figures.len();
            let (logits, back) = (&mut logits[..targets.len() * vocabulary], &mut back[..targets.len() * vocabulary]);
            gemm::linear(x, hidden, &packed, None, logits);
            let rows = logits.par_chunks_exact(vocabulary).zip(back.par_chunks_exact_mut(vocabulary));
            let piece: Vec<TokenFigures> = (rows.zip(targets).enumerate())
                .map(|(i, ((row, out), target))| {
                    back_row(row, *target, scale, |logprob| gradient(first + i, logprob), out)
                })
                .collect();
            figures.extend(piece);
            gemm::linear(back, vocabulary, &transposed, None, dx);
            if self.trains {
                let x = buffers.pack_transposed(x, targets.len(), hidden);
                gradients.with_sum(self.name, self.weight.shape(), |sum| {
                    gemm::add_weight_gradient(back, vocabulary, &x, sum);
                })?;
            }
        }
        let mut dx = vec![0f32; x.len()];
        self.norm.backward(x, &by_normed, &mut dx, gradients)?;
        buffers.give([normed, by_normed, logits, back]);
        Ok((figures, dx))
    }
}
