//! The merger between the vision tower and the text tower: norm, linear, GELU, linear.

use candle_core::{Result, Tensor};

use super::linear_map::{LinearMap, pack_input};
use super::rms_norm::RmsNorm;
use super::{BufferPool, floats, tensor};
use crate::kernels::aligned::AlignedBuffer;
use crate::kernels::gelu;
use crate::training::gradients::Gradients;
use crate::training::trainable::TrainableModel;
use crate::vlm::config::VISION_RMS_EPS;

/// The merger with its weights.
pub(in crate::training) struct Merger<'a> {
    norm: RmsNorm,
    first: LinearMap<'a>,
    second: LinearMap<'a>,
}

/// Activations for the backward pass.
pub(in crate::training) struct MergerActivations {
    x: Tensor,
    normed: AlignedBuffer,
    /// Input and output of the GELU.
    hidden: AlignedBuffer,
    active: AlignedBuffer,
}

impl<'a> Merger<'a> {
    pub(in crate::training) fn new(weights: &'a TrainableModel) -> Result<Self> {
        Ok(Self {
            norm: RmsNorm::new(weights, "visual.merger.ln_q.weight".to_owned(), VISION_RMS_EPS)?,
            first: LinearMap::new(weights, "visual.merger.mlp.0", true)?,
            second: LinearMap::new(weights, "visual.merger.mlp.2", true)?,
        })
    }

    /// Returns the image tokens `[tokens, hidden]` and the activations for the backward pass.
    /// `order` maps each position in window order to its image token.
    pub(in crate::training) fn forward(
        &self,
        x: Tensor,
        order: &[u32],
        buffers: &BufferPool,
    ) -> Result<(Tensor, MergerActivations)> {
        let input = floats(&x)?;
        let tokens = order.len();
        let mut normed = buffers.take(input.len());
        self.norm.forward(&input, &mut normed)?;
        let take = |map: &LinearMap<'_>| buffers.take(tokens * map.outputs());
        let (mut hidden, mut active) = (take(&self.first), take(&self.first));
        self.first.forward(&normed, &mut hidden, buffers)?;
        gelu::gelu(&hidden, &mut active);
        let mut merged = take(&self.second);
        self.second.forward(&active, &mut merged, buffers)?;
        let width = self.second.outputs();
        let mut output = vec![0f32; merged.len()];
        for (token, row) in order.iter().zip(merged.chunks_exact(width)) {
            output[*token as usize * width..][..width].copy_from_slice(row);
        }
        buffers.put_back([merged]);
        drop(input);
        Ok((tensor(output, width)?, MergerActivations { x, normed, hidden, active }))
    }

    /// Returns the gradient of the input from that of the image tokens, and adds those of the
    /// weights to `gradients`.
    pub(in crate::training) fn backward(
        &self,
        kept: MergerActivations,
        gradient: &Tensor,
        order: &[u32],
        buffers: &BufferPool,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let MergerActivations { x, normed, hidden, active } = kept;
        let (input, gradient) = (floats(&x)?, floats(gradient)?);
        let width = self.second.outputs();
        let mut d_merged = buffers.take(gradient.len());
        for (token, row) in order.iter().zip(d_merged.chunks_exact_mut(width)) {
            row.copy_from_slice(&gradient[*token as usize * width..][..width]);
        }
        self.second.weight_gradient(&d_merged, pack_input(&[&self.second], &active, buffers).as_deref(), gradients)?;
        let mut d_active = active;
        self.second.input_gradient(&d_merged, &mut d_active, buffers)?;
        let mut d_hidden = buffers.take(hidden.len());
        gelu::gelu_backward(&hidden, &d_active, &mut d_hidden);
        self.first.weight_gradient(&d_hidden, pack_input(&[&self.first], &normed, buffers).as_deref(), gradients)?;
        let mut d_normed = normed;
        self.first.input_gradient(&d_hidden, &mut d_normed, buffers)?;
        let mut d_input = vec![0f32; input.len()];
        self.norm.backward(&input, &d_normed, &mut d_input, gradients)?;
        buffers.put_back([d_merged, d_active, d_hidden, d_normed, hidden]);
        tensor(d_input, x.dim(1)?)
    }
}
