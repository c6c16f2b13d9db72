//! Rows of a matrix by index: the lookup in an embedding, and the change of order between windows
//! and images.

use candle_core::{Result, Tensor, bail};

use super::path::{Ops, at_least_f32};
use super::row_kernel::{CpuOp, RowKernel};
use super::storage::{Rows, tensor, with_rows};

const NAME: &str = "gather";

impl Ops {
    /// Returns row `rows[i]` of `x` `[count, width]` as row `i` of the result, `[rows, width]`.
    pub fn gather(self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        if self.uses_cpu_kernels_for(x) {
            x.apply_op1(CpuOp(Kernel { rows: rows.to_vec() }))
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
        let sums = with_rows(NAME, &x.contiguous()?, |x| scatter(x, rows, vec![0f32; count * width]))?;
        tensor(sums, (count, width))
    }
}

struct Kernel {
    rows: Vec<u32>,
}

impl RowKernel<1> for Kernel {
    const NAME: &'static str = NAME;

    fn forward(&self, [x]: [Rows<'_>; 1]) -> Result<(Vec<f32>, (usize, usize))> {
        let mut out = Vec::with_capacity(self.rows.len() * x.width);
        for row in &self.rows {
            if *row as usize >= x.count {
                bail!("{NAME}: row {row} of a matrix of {} rows", x.count);
            }
            out.extend_from_slice(&x.data[*row as usize * x.stride..][..x.width]);
        }
        Ok((out, (self.rows.len(), x.width)))
    }

    fn backward(&self, [x]: [Rows<'_>; 1], gradient: Rows<'_>, _: [bool; 1]) -> Result<[Option<Vec<f32>>; 1]> {
        Ok([Some(scatter(gradient, &self.rows, x.zeros())?)])
    }
}

/// Adds the rows to rows of `out`; those that are added to one row in their order.
fn scatter(x: Rows<'_>, rows: &[u32], mut out: Vec<f32>) -> Result<Vec<f32>> {
    for (row, x) in rows.iter().zip(x.contiguous(NAME)?.chunks_exact(x.width)) {
        out[*row as usize * x.len()..][..x.len()].iter_mut().zip(x).for_each(|(out, x)| *out += x);
    }
    Ok(out)
}
