//! The activation of the merger: GELU with the error function.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::Ops;
use super::storage::{Rows, tensor, with_rows};
use crate::kernels::gelu as kernel;

const NAME: &str = "gelu";

impl Ops {
    /// Computes `x Φ(x)`, elementwise on `[tokens, width]`.
    pub fn gelu(self, x: &Tensor) -> Result<Tensor> {
        if self.uses_cpu_kernels_for(x) { x.contiguous()?.apply_op1(Kernel) } else { x.gelu_erf() }
    }
}

struct Kernel;

impl CustomOp1 for Kernel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = Rows::new(NAME, storage, layout)?.contiguous(NAME)?;
        let mut out = vec![0f32; x.len()];
        kernel::gelu(x, &mut out);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        with_rows(NAME, x, |rows| {
            with_rows(NAME, &gradient.contiguous()?, |gradient| {
                let rows = rows.contiguous(NAME)?;
                let mut dx = vec![0f32; rows.len()];
                kernel::gelu_backward(rows, gradient.contiguous(NAME)?, &mut dx);
                Ok(Some(tensor(dx, x.shape())?))
            })
        })
    }
}
