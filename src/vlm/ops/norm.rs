//! RMS normalisation (Zhang & Sennrich 2019, arXiv 1910.07467).

use candle_core::{Result, Tensor};

use super::path::{Ops, at_least_f32, has_fused};
use super::row_kernel::{CpuOp, RowKernel};
use super::storage::Rows;
use crate::kernels::{rowwise, rowwise_backward};

const NAME: &str = "rms-norm";

/// RMS norm, `y = x / sqrt(mean(x^2) + eps) * weight`, with the mean in f32.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
    ops: Ops,
}

impl RmsNorm {
    /// Creates a norm with this weight, `[width]`.
    pub fn new(ops: Ops, weight: Tensor, eps: f64) -> Self {
        Self { weight, eps, ops }
    }

    /// Normalises `[tokens, width]` row by row.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.ops.uses_cpu_kernels_for(x) {
            x.contiguous()?.apply_op2(&self.weight, CpuOp(Kernel { eps: self.eps }))
        } else if has_fused(&[x, &self.weight]) {
            candle_nn::ops::rms_norm(&x.contiguous()?, &self.weight, self.eps as f32)
        } else {
            reference(x, &self.weight, self.eps)
        }
    }
}

fn reference(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let dtype = x.dtype();
    let x = x.to_dtype(at_least_f32(dtype))?;
    let mean = x.sqr()?.mean_keepdim(1)?; // [tokens, 1]
    let normed = x.broadcast_div(&(mean + eps)?.sqrt()?)?;
    normed.to_dtype(dtype)?.broadcast_mul(weight)
}

struct Kernel {
    eps: f64,
}

impl RowKernel<2> for Kernel {
    const NAME: &'static str = NAME;

    fn forward(&self, [x, weight]: [Rows<'_>; 2]) -> Result<(Vec<f32>, (usize, usize))> {
        let mut out = x.zeros();
        rowwise::rms_norm(x.contiguous(NAME)?, weight.contiguous(NAME)?, self.eps as f32, &mut out);
        Ok((out, x.shape()))
    }

    fn backward(&self, [x, weight]: [Rows<'_>; 2], g: Rows<'_>, _: [bool; 2]) -> Result<[Option<Vec<f32>>; 2]> {
        let (mut dx, mut dw) = (x.zeros(), weight.zeros());
        let (x, weight, g) = (x.contiguous(NAME)?, weight.contiguous(NAME)?, g.contiguous(NAME)?);
        rowwise_backward::rms_norm_backward(x, weight, self.eps as f32, g, &mut dx, &mut dw);
        Ok([Some(dx), Some(dw)])
    }
}
