//! SwiGLU, the gated activation of both towers (Shazeer 2020, arXiv 2002.05202).

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::path::{Ops, at_least_f32};
use super::storage::{Rows, tensor};
use crate::kernels::{rowwise, rowwise_backward};

const NAME: &str = "swiglu";

impl Ops {
    /// Computes `silu(gate) up`, elementwise on `[tokens, width]`.
    pub fn swiglu(self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        if self.uses_cpu_kernels_for(gate) {
            return gate.contiguous()?.apply_op2(&up.contiguous()?, Kernel);
        }
        #[cfg(feature = "cuda")]
        if self.uses_gpu_kernels_for(&[gate, up]) {
            return crate::device::cuda::kernels::swiglu(gate, up);
        }
        // In 16 bits candle's activation rounds intermediates; this rounds the result, as torch.
        gate.to_dtype(at_least_f32(gate.dtype()))?.silu()?.to_dtype(gate.dtype())? * up
    }
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
        let shape = gate.shape();
        let gradient = gradient.contiguous()?;
        let (gate, up, gradient) = (gate.storage_and_layout(), up.storage_and_layout(), gradient.storage_and_layout());
        let (gate, up, gradient) =
            (Rows::from_tensor(NAME, &gate)?, Rows::from_tensor(NAME, &up)?, Rows::from_tensor(NAME, &gradient)?);
        let (gate, up, gradient) = (gate.contiguous(NAME)?, up.contiguous(NAME)?, gradient.contiguous(NAME)?);
        let (mut dgate, mut dup) = (gate.to_vec(), up.to_vec());
        rowwise_backward::swiglu_backward(&mut dgate, &mut dup, gradient);
        Ok((Some(tensor(dgate, shape)?), Some(tensor(dup, shape)?)))
    }
}
