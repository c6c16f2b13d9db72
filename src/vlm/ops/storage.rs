//! Access to candle's CPU storages as the rows that the kernels read.

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Storage, Tensor, bail};

/// Rows of f32 in a storage: row `i` begins at `i * stride`.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
    pub(super) count: usize,
    pub(super) width: usize,
}

impl<'a> Rows<'a> {
    /// Views the rows of a `[count, width]` tensor, which must be contiguous, or a `[width]` tensor
    /// as one row.
    pub(super) fn new(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let CpuStorage::F32(data) = storage else { bail!("{op}: the kernel is for f32") };
        let (count, width, stride, step) = match (layout.dims(), layout.stride()) {
            (&[count, width], &[stride, step]) => (count, width, stride, step),
            (&[width], &[step]) => (1, width, width, step),
            (dims, _) => bail!("{op}: expected [tokens, width], got {dims:?}"),
        };
        if step != 1 && width > 1 {
            bail!("{op}: the rows are not contiguous (strides {:?})", layout.stride());
        }
        Ok(Self { data: &data[layout.start_offset()..], stride, count, width })
    }

    /// Views the rows of a `[count, width]` tensor, from the result of its `storage_and_layout`.
    pub(super) fn from_tensor(
        op: &str,
        (storage, layout): &'a (impl Deref<Target = Storage>, &Layout),
    ) -> Result<Self> {
        match &**storage {
            Storage::Cpu(storage) => Self::new(op, storage, layout),
            _ => bail!("{op}: the kernel is for the CPU"),
        }
    }

    pub(super) fn shape(self) -> (usize, usize) {
        (self.count, self.width)
    }

    /// Returns as many zeros as the rows have elements.
    pub(super) fn zeros(self) -> Vec<f32> {
        vec![0f32; self.count * self.width]
    }

    /// Returns the rows as one slice; an error where there are gaps between them.
    pub(super) fn contiguous(self, op: &str) -> Result<&'a [f32]> {
        if self.stride != self.width && self.count > 1 {
            bail!("{op}: there are gaps between the rows");
        }
        Ok(&self.data[..self.count * self.width])
    }
}

/// Creates a tensor on the CPU.
pub(super) fn tensor(elements: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(elements, shape.into(), &Device::Cpu)
}

/// Runs a function on the rows of a CPU tensor.
pub(super) fn with_rows<T>(op: &str, x: &Tensor, f: impl FnOnce(Rows<'_>) -> Result<T>) -> Result<T> {
    f(Rows::from_tensor(op, &x.storage_and_layout())?)
}

/// Borrows the elements of a contiguous f32 tensor on the CPU.
pub(crate) fn floats(tensor: &Tensor) -> Result<impl Deref<Target = [f32]> + '_> {
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
