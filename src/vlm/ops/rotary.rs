//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864), the variant that rotates the
//! halves of a head.

use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor};

use super::path::{Ops, at_least_f32};
use super::storage::{Rows, tensor, with_rows};
use crate::kernels::rowwise;

const NAME: &str = "rotary";

impl Ops {
    /// Rotates every head of `x` `[tokens, heads * dim]` by the angles of its token; `cos` and
    /// `sin` are `[tokens, dim / 2]`.
    pub fn rotate(self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        if self.uses_cpu_kernels_for(x) {
            return x.apply_op3(cos, sin, Kernel);
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

impl CustomOp3 for Kernel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = Rows::new(NAME, s1, l1)?;
        let (cos, sin) = (Rows::new(NAME, s2, l2)?, Rows::new(NAME, s3, l3)?);
        let half = cos.width;
        if half == 0 || x.width % (2 * half) != 0 || cos.count != x.count || sin.count != x.count || sin.width != half {
            candle_core::bail!("rotary: {:?} does not fit angles {:?}", l1.dims(), l2.dims());
        }
        let mut out = vec![0f32; x.count * x.width];
        let heads = x.width / (2 * half);
        rowwise::rotate(x.data, x.stride, heads, cos.contiguous(NAME)?, sin.contiguous(NAME)?, half, &mut out);
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    /// Rotates the gradient by the opposite angles: the transpose of a rotation is its inverse.
    fn bwd(
        &self,
        _: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (cos, sin) = (cos.storage_and_layout(), sin.storage_and_layout());
        let (cos, sin) = (Rows::from_tensor(NAME, &cos)?, Rows::from_tensor(NAME, &sin)?);
        let half = cos.width;
        let (cos, sin) = (cos.contiguous(NAME)?, sin.contiguous(NAME)?);
        let gradient = with_rows(NAME, &gradient.contiguous()?, |g| {
            let mut out = vec![0f32; g.count * g.width];
            rowwise::rotate_inverse(g.data, g.stride, g.width / (2 * half), cos, sin, half, &mut out);
            tensor(out, (g.count, g.width))
        })?;
        Ok((Some(gradient), None, None))
    }
}
