//! The start of an autograd backward pass with a given output gradient.

use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// Returns a scalar whose `backward()` sends `gradient` (same shape as `x`) into the graph of `x`:
/// PyTorch's `x.backward(gradient)`.
///
/// Unlike `(x * gradient).sum()` it does no arithmetic.
pub(super) fn backward_from(x: &Tensor, gradient: Tensor) -> Result<Tensor> {
    x.apply_op1(GivenGradient { gradient })
}

struct GivenGradient {
    gradient: Tensor,
}

impl CustomOp1 for GivenGradient {
    fn name(&self) -> &'static str {
        "given gradient"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn cuda_fwd(&self, storage: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        use candle_core::backend::{BackendDevice, BackendStorage};
        let zero = storage.device().zeros_impl(&Shape::from(()), storage.dtype())?;
        Ok((zero, Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.gradient.clone()))
    }
}
