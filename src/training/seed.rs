//! Starts a backward pass with a given gradient.

use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// A scalar whose gradient with respect to `x` is `gradient`: what calling `backward` on it sends through `x`'s graph.
///
/// Unlike `(x * gradient).sum()` it computes nothing.
pub(super) fn seeded(x: &Tensor, gradient: Tensor) -> Result<Tensor> {
    x.apply_op1(Seed { gradient })
}

struct Seed {
    gradient: Tensor,
}

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
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
