//! The merger between the vision tower and the text tower: norm, linear, GELU, linear.

use candle_core::{Result, Tensor};

use super::BufferPool;
use super::block::gather_rows;
use super::linear_map::{LinearMap, input_gradient, weight_gradients};
use super::rms_norm::RmsNorm;
use crate::kernels::aligned::AlignedBuffer;
use crate::kernels::gelu;
use crate::training::floats::{floats, tensor};
use crate::training::gradients::Gradients;
use crate::training::trainable::TrainableModel;
use crate::vlm::config::VISION_RMS_EPS;

/// The merger with its weights.
pub(crate) struct Merger<'a> {
    buffers: &'a BufferPool,
    norm: RmsNorm,
    first: LinearMap<'a>,
    second: LinearMap<'a>,
}

/// Activations for the backward pass.
pub(crate) struct MergerActivations {
    x: Tensor,
    normed: AlignedBuffer,
    /// Input and output of the GELU.
    hidden: AlignedBuffer,
    active: AlignedBuffer,
}

impl<'a> Merger<'a> {
    pub(crate) fn new(weights: &'a TrainableModel, buffers: &'a BufferPool) -> Result<Self> {
        Ok(Self {
            buffers,
            norm: RmsNorm::new(weights, "visual.merger.ln_q.weight".to_owned(), VISION_RMS_EPS)?,
            first: LinearMap::new(weights, buffers, "visual.merger.mlp.0", true)?,
            second: LinearMap::new(weights, buffers, "visual.merger.mlp.2", true)?,
        })
    }

    /// Returns the image tokens `[tokens, hidden]` and the activations for the backward pass.
    /// `order` maps each position in window order to its image token.
    pub(crate) fn forward(&self, x: Tensor, order: &[u32]) -> Result<(Tensor, MergerActivations)> {
        let input = floats(&x)?;
        let tokens = order.len();
        let mut normed = self.buffers.take(input.len());
        self.norm.forward(&input, &mut normed)?;
        let take = |map: &LinearMap<'_>| self.buffers.take(tokens * map.outputs());
        let (mut hidden, mut active) = (take(&self.first), take(&self.first));
        self.first.forward(&normed, &mut hidden)?;
        gelu::gelu(&hidden, &mut active);
        let mut merged = take(&self.second);
        self.second.forward(&active, &mut merged)?;
        let width = self.second.outputs();
        let mut output = vec![0f32; merged.len()];
        for (token, row) in order.iter().zip(merged.chunks_exact(width)) {
            output[*token as usize * width..][..width].copy_from_slice(row);
        }
        self.buffers.put_back([merged]);
        drop(input);
        Ok((tensor(output, width)?, MergerActivations { x, normed, hidden, active }))
    }

    /// Returns the gradient of the input from that of the image tokens, and adds those of the
    /// weights to `gradients`.
    pub(crate) fn backward(
        &self,
        kept: MergerActivations,
        gradient: &Tensor,
        order: &[u32],
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let MergerActivations { x, normed, hidden, active } = kept;
        let (input, gradient) = (floats(&x)?, floats(gradient)?);
        let d_merged = gather_rows(&gradient, order, self.second.outputs(), self.buffers);
        weight_gradients(&[(&self.second, &d_merged)], &active, gradients)?;
        let mut d_active = active;
        input_gradient(&[(&self.second, &d_merged)], &mut d_active)?;
        let mut d_hidden = self.buffers.take(hidden.len());
        gelu::gelu_backward(&hidden, &d_active, &mut d_hidden);
        weight_gradients(&[(&self.first, &d_hidden)], &normed, gradients)?;
        let mut d_normed = normed;
        input_gradient(&[(&self.first, &d_hidden)], &mut d_normed)?;
        let mut d_input = vec![0f32; input.len()];
        self.norm.backward(&input, &d_normed, &mut d_input, gradients)?;
        self.buffers.put_back([d_merged, d_active, d_hidden, d_normed, hidden]);
        tensor(d_input, x.dim(1)?)
    }
}
