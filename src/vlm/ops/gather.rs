//! Rows of a matrix by index: the lookup in an embedding, and the change of order between windows
//! and images.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::path::{Ops, at_least_f32};
use super::storage::{Rows, tensor, with_rows};

const NAME: &str = "gather";

impl Ops {
    /// Returns row `rows[i]` of `x` `[count, width]` as row `i` of the result, `[rows, width]`.
    pub fn gather(self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        if self.uses_cpu_kernels_for(x) {
            x.apply_op1(Kernel { rows: rows.to_vec() })
        } else {
            x.index_select(&Tensor::new(rows, x.device())?, 0)
        }
    }

    /// Adds row `i` of `x` `[rows, width]` to row `rows[i]` of a result that is zero elsewhere,
    /// `[count, width]`.
    ///
    /// It is the backward pass of [`gather`](Self::gather) and has no gradient itself.
    pub fn scatter(self, x: &Tensor, rows: &[u32], count: usize) -> Result<Tensor> {
        let width = x.dim(1)?;
        if !self.uses_cpu_kernels_for(x) {
            // Many rows may be added to one, for which 16 bits are too few.
            let wide = at_least_f32(x.dtype());
            let zero = Tensor::zeros((count, width), wide, x.device())?;
            let sums = zero.index_add(&Tensor::new(rows, x.device())?, &x.to_dtype(wide)?.contiguous()?, 0)?;
            return sums.to_dtype(x.dtype());
        }
        let mut out = vec![0f32; count * width];
        with_rows(NAME, &x.contiguous()?, |x| {
            for (row, x) in rows.iter().zip(x.contiguous(NAME)?.chunks_exact(width)) {
                out[*row as usize * width..][..width].iter_mut().zip(x).for_each(|(out, x)| *out += x);
            }
            Ok(())
        })?;
        tensor(out, (count, width))
    }
}

struct Kernel {
    rows: Vec<u32>,
}

impl CustomOp1 for Kernel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = Rows::new(NAME, storage, layout)?;
        let mut out = Vec::with_capacity(self.rows.len() * x.width);
        for row in &self.rows {
            if *row as usize >= x.count {
                bail!("{NAME}: row {row} of a matrix of {} rows", x.count);
            }
            out.extend_from_slice(&x.data[*row as usize * x.stride..][..x.width]);
        }
        Ok((CpuStorage::F32(out), Shape::from((self.rows.len(), x.width))))
    }

    /// Adds up the gradients of a row's uses in their order.
    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(Ops::Kernels.scatter(gradient, &self.rows, x.dim(0)?)?))
    }
}
