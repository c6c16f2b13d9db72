//! RMS normalisation (Zhang & Sennrich 2019, arXiv 1910.07467).

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::path::{Ops, at_least_f32, has_fused};
use super::storage::{Rows, tensor, vector, vector_from_tensor};
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
            x.contiguous()?.apply_op2(&self.weight, Kernel { eps: self.eps })
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

impl CustomOp2 for Kernel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = Rows::new(NAME, s1, l1)?;
        let mut out = vec![0f32; x.count * x.width];
        rowwise::rms_norm(x.contiguous(NAME)?, vector(NAME, s2, l2)?, self.eps as f32, &mut out);
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (x, weight, gradient) =
            (x.storage_and_layout(), weight.storage_and_layout(), gradient.storage_and_layout());
        let (x, weight, gradient) =
            (Rows::from_tensor(NAME, &x)?, vector_from_tensor(NAME, &weight)?, Rows::from_tensor(NAME, &gradient)?);
        let (mut dx, mut dw) = (vec![0f32; x.count * x.width], vec![0f32; x.width]);
        let eps = self.eps as f32;
        let (rows, gradient) = (x.contiguous(NAME)?, gradient.contiguous(NAME)?);
        rowwise_backward::rms_norm_backward(rows, weight, eps, gradient, &mut dx, &mut dw);
        Ok((Some(tensor(dx, (x.count, x.width))?), Some(tensor(dw, x.width)?)))
    }
}
