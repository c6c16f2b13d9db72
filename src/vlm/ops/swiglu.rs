//! The gated activation of both towers (Shazeer 2020, arXiv 2002.05202).

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::storage::Rows;
use super::{gradients_through, has_kernels};
use crate::kernels::rowwise;

const NAME: &str = "swiglu";

/// `silu(gate) up`, elementwise on `[tokens, width]`.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if has_kernels(gate) { gate.contiguous()?.apply_op2(&up.contiguous()?, Kernel) } else { gate.silu()? * up }
}

struct Kernel;

impl CustomOp2 for Kernel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let gate = Rows::new(NAME, s1, l1)?.contiguous(NAME)?;
        let up = Rows::new(NAME, s2, l2)?.contiguous(NAME)?;
        let mut out = vec![0f32; gate.len()];
        rowwise::swiglu(gate, up, &mut out);
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut gradients = gradients_through(&[gate, up], gradient, |v| v[0].silu()? * v[1].as_tensor())?;
        let up = gradients.pop().flatten();
        Ok((gradients.pop().flatten(), up))
    }
}
