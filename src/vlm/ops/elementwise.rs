//! Elementwise ops: the residual connection, SwiGLU (Shazeer 2020, arXiv 2002.05202), which is the
//! gated activation of both towers, and GELU with the error function, the merger's activation.

use candle_core::{Result, Tensor};

use super::path::{Ops, at_least_f32};
use super::row_kernel::{CpuOp, RowKernel};
use super::storage::Rows;
use crate::kernels::{gelu, rowwise, rowwise_backward};

impl Ops {
    /// Returns `x + y`, both `[tokens, width]`.
    ///
    /// candle's sum of two tensors wakes its own pool of threads, which costs more than the sum.
    pub fn residual(self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        if self.uses_cpu_kernels_for(x) { x.contiguous()?.apply_op2(&y.contiguous()?, CpuOp(Residual)) } else { x + y }
    }

    /// Computes `silu(gate) up`, elementwise on `[tokens, width]`.
    pub fn swiglu(self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        if self.uses_cpu_kernels_for(gate) {
            return gate.contiguous()?.apply_op2(&up.contiguous()?, CpuOp(SwiGlu));
        }
        #[cfg(feature = "cuda")]
        if self.uses_gpu_kernels_for(&[gate, up]) {
            return crate::device::cuda::kernels::swiglu(gate, up);
        }
        // In 16 bits candle's activation rounds intermediates; this rounds the result, as torch.
        gate.to_dtype(at_least_f32(gate.dtype()))?.silu()?.to_dtype(gate.dtype())? * up
    }

    /// Computes `x Φ(x)`, elementwise on `[tokens, width]`.
    pub fn gelu(self, x: &Tensor) -> Result<Tensor> {
        if self.uses_cpu_kernels_for(x) { x.contiguous()?.apply_op1(CpuOp(Gelu)) } else { x.gelu_erf() }
    }
}

struct Residual;

impl RowKernel<2> for Residual {
    const NAME: &'static str = "residual";

    fn forward(&self, [x, y]: [Rows<'_>; 2]) -> Result<(Vec<f32>, (usize, usize))> {
        let mut out = x.zeros();
        rowwise::add(x.contiguous(Self::NAME)?, y.contiguous(Self::NAME)?, &mut out);
        Ok((out, x.shape()))
    }

    fn backward(&self, _: [Rows<'_>; 2], gradient: Rows<'_>, _: [bool; 2]) -> Result<[Option<Vec<f32>>; 2]> {
        let gradient = gradient.contiguous(Self::NAME)?.to_vec();
        Ok([Some(gradient.clone()), Some(gradient)])
    }
}

struct SwiGlu;

impl RowKernel<2> for SwiGlu {
    const NAME: &'static str = "swiglu";

    fn forward(&self, [gate, up]: [Rows<'_>; 2]) -> Result<(Vec<f32>, (usize, usize))> {
        let mut out = gate.zeros();
        rowwise::swiglu(gate.contiguous(Self::NAME)?, up.contiguous(Self::NAME)?, &mut out);
        Ok((out, gate.shape()))
    }

    fn backward(&self, [gate, up]: [Rows<'_>; 2], gradient: Rows<'_>, _: [bool; 2]) -> Result<[Option<Vec<f32>>; 2]> {
        let (mut gate, mut up) = (gate.contiguous(Self::NAME)?.to_vec(), up.contiguous(Self::NAME)?.to_vec());
        rowwise_backward::swiglu_backward(&mut gate, &mut up, gradient.contiguous(Self::NAME)?);
        Ok([Some(gate), Some(up)])
    }
}

struct Gelu;

impl RowKernel<1> for Gelu {
    const NAME: &'static str = "gelu";

    fn forward(&self, [x]: [Rows<'_>; 1]) -> Result<(Vec<f32>, (usize, usize))> {
        let mut out = x.zeros();
        gelu::gelu(x.contiguous(Self::NAME)?, &mut out);
        Ok((out, x.shape()))
    }

    fn backward(&self, [x]: [Rows<'_>; 1], gradient: Rows<'_>, _: [bool; 1]) -> Result<[Option<Vec<f32>>; 1]> {
        let mut dx = x.zeros();
        gelu::gelu_backward(x.contiguous(Self::NAME)?, gradient.contiguous(Self::NAME)?, &mut dx);
        Ok([Some(dx)])
    }
}
