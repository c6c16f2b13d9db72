//! candle's f32 tensors on the CPU as slices.

use std::cell::Cell;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Tensor, bail};

pub(super) use crate::vlm::ops::floats;

/// Calls `run` with the elements of a contiguous f32 tensor on the CPU, to change them.
pub(super) fn in_place(tensor: &Tensor, run: impl FnOnce(&mut [f32])) -> Result<()> {
    tensor.inplace_op1(&InPlace(Cell::new(Some(run))))
}

/// An in-place op that calls a closure with the tensor's elements, once.
struct InPlace<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for InPlace<F> {
    fn name(&self) -> &'static str {
        "in-place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match (storage, layout.contiguous_offsets(), self.0.take()) {
            (CpuStorage::F32(values), Some((from, to)), Some(run)) => run(&mut values[from..to]),
            _ => bail!("in-place: expected contiguous f32"),
        }
        Ok(())
    }
}

/// Adds `terms` to `sums`, element by element.
pub(super) fn add_to(sums: &mut [f32], terms: &[f32]) {
    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
}

/// Returns rows as a tensor `[rows, width]`.
pub(super) fn tensor(values: Vec<f32>, width: usize) -> Result<Tensor> {
    let rows = values.len() / width.max(1);
    Tensor::from_vec(values, (rows, width), &Device::Cpu)
}
