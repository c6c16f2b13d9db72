//! Conversions between candle's tensors and slices of f32.

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Device, Result, Storage, Tensor, bail};

/// Borrows the elements of a contiguous f32 tensor on the CPU.
pub(in crate::training) fn floats(tensor: &Tensor) -> Result<impl Deref<Target = [f32]> + '_> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(_)), Some((from, to))) => Ok(Floats { storage, range: from..to }),
        _ => bail!("expected contiguous f32 on the CPU, got {tensor:?}"),
    }
}

/// A read guard of a storage and the range of a tensor in it.
struct Floats<G> {
    storage: G,
    range: Range<usize>,
}

impl<G: Deref<Target = Storage>> Deref for Floats<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => &[],
        }
    }
}

/// Returns rows as a tensor `[rows, width]`.
pub(in crate::training) fn tensor(values: Vec<f32>, width: usize) -> Result<Tensor> {
    let rows = values.len() / width.max(1);
    Tensor::from_vec(values, (rows, width), &Device::Cpu)
}
