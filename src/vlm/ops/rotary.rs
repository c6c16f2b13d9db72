//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864), the variant that rotates the
//! halves of a head.

use candle_core::{D, Result, Tensor};

use super::path::{Ops, at_least_f32};
use super::row_kernel::{CpuOp, RowKernel};
use super::storage::Rows;
use crate::kernels::rowwise;

const NAME: &str = "rotary";

impl Ops {
    /// Rotates every head of `x` `[tokens, heads * dim]` by the angles of its token; `cos` and
    /// `sin` are `[tokens, dim / 2]`.
    pub fn rotate(self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        if self.uses_cpu_kernels_for(x) {
            return x.apply_op3(cos, sin, CpuOp(Kernel));
        }
        #[cfg(feature = "cuda")]
        if self.uses_gpu_kernels_for(&[x, cos, sin]) {
            return crate::device::cuda::kernels::rotate(x, cos, sin);
        }
        reference(x, cos, sin)
    }
}

fn reference(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    let half = cos.dim(1)?;
    let wide = at_least_f32(x.dtype());
    let heads = x.to_dtype(wide)?.reshape((tokens, width / (2 * half), 2 * half))?; // [tokens, heads, dim]
    let (a, b) = (heads.narrow(D::Minus1, 0, half)?, heads.narrow(D::Minus1, half, half)?);
    let (cos, sin) = (cos.to_dtype(wide)?.unsqueeze(1)?, sin.to_dtype(wide)?.unsqueeze(1)?); // [tokens, 1, half]
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Tensor::cat(&[first, second], D::Minus1)?.reshape((tokens, width))?.to_dtype(x.dtype())
}

struct Kernel;

impl RowKernel<3> for Kernel {
    const NAME: &'static str = NAME;

    fn forward(&self, [x, cos, sin]: [Rows<'_>; 3]) -> Result<(Vec<f32>, (usize, usize))> {
        let half = cos.width;
        if half == 0 || x.width % (2 * half) != 0 || cos.count != x.count || sin.shape() != cos.shape() {
            candle_core::bail!("rotary: {:?} does not fit angles {:?}", x.shape(), cos.shape());
        }
        let mut out = x.zeros();
        let heads = x.width / (2 * half);
        rowwise::rotate(x.data, x.stride, heads, cos.contiguous(NAME)?, sin.contiguous(NAME)?, half, &mut out);
        Ok((out, x.shape()))
    }

    /// Rotates the gradient by the opposite angles: the transpose of a rotation is its inverse.
    fn backward(&self, [_, cos, sin]: [Rows<'_>; 3], g: Rows<'_>, _: [bool; 3]) -> Result<[Option<Vec<f32>>; 3]> {
        let mut out = g.zeros();
        let (half, heads) = (cos.width, g.width / (2 * cos.width));
        rowwise::rotate_inverse(g.data, g.stride, heads, cos.contiguous(NAME)?, sin.contiguous(NAME)?, half, &mut out);
        Ok([Some(out), None, None])
    }
}
