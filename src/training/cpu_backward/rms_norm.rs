//! RMS normalization, forward and backward, with a weight that may be frozen.

use candle_core::{Result, Tensor};

use crate::kernels::{rowwise, rowwise_backward};
use crate::training::floats::{add_to, floats};
use crate::training::gradients::Gradients;
use crate::training::trainable::{DetachedWeights, TrainableModel};
use crate::vlm::named_tensors::NamedTensors;

/// An RMS norm: its weight `[width]` and epsilon.
pub(super) struct RmsNorm {
    name: String,
    weight: Tensor,
    eps: f32,
    is_trained: bool,
}

impl RmsNorm {
    pub(super) fn new(weights: &TrainableModel, name: String, eps: f64) -> Result<Self> {
        let weight = DetachedWeights(weights).tensor(&name)?.contiguous()?;
        Ok(Self { is_trained: weights.is_trained(&name), name, weight, eps: eps as f32 })
    }

    pub(super) fn forward(&self, x: &[f32], out: &mut [f32]) -> Result<()> {
        rowwise::rms_norm(x, &floats(&self.weight)?, self.eps, out);
        Ok(())
    }

    /// Computes `dx` from the output's gradient and adds the weight's to `gradients`.
    pub(super) fn backward(
        &self,
        x: &[f32],
        gradient: &[f32],
        dx: &mut [f32],
        gradients: &mut Gradients,
    ) -> Result<()> {
        let mut dw = vec![0f32; self.weight.elem_count()];
        rowwise_backward::rms_norm_backward(x, &floats(&self.weight)?, self.eps, gradient, dx, &mut dw);
        if self.is_trained {
            gradients.with_sum(&self.name, self.weight.shape(), |sum| add_to(sum, &dw))?;
        }
        Ok(())
    }
}
