//! A buffer of floats that starts on a cache line, so that no vector load straddles two.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Floats in a cache line.
const LINE: usize = 16;

/// Floats from which on memory is the system's own mapping, which goes back to it when it is freed. The heaps that glibc gives to
/// threads are of 64 MiB: blocks of a part of that leave holes that are of no use to anyone.
const MAPPED: usize = 1 << 20;

/// Floats whose first element lies on a 64-byte boundary.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    storage: Storage,
    start: usize,
    len: usize,
}

#[derive(Debug)]
enum Storage {
    Heap(Vec<f32>),
    /// Pages, and so aligned.
    Mapped(MmapMut),
}

impl Default for Storage {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Storage {
    fn floats(&self) -> &[f32] {
        match self {
            Self::Heap(floats) => floats,
            Self::Mapped(pages) => bytemuck::cast_slice(pages),
        }
    }
}

impl AlignedBuffer {
    /// A buffer of `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        if len >= MAPPED
            && let Ok(pages) = MmapMut::map_anon(len * size_of::<f32>())
        {
            prefer_huge_pages(&pages);
            return Self { storage: Storage::Mapped(pages), start: 0, len };
        }
        Self::on_heap(vec![0f32; len + LINE], len)
    }

    /// A buffer of `len` floats, whatever they are, in the same memory if there is room.
    pub fn resized(self, len: usize) -> Self {
        if self.capacity() < len {
            return Self::zeroed(len);
        }
        match self.storage {
            Storage::Mapped(_) => Self { len, ..self },
            Storage::Heap(mut storage) => {
                storage.resize(len + LINE, 0.0);
                Self::on_heap(storage, len)
            }
        }
    }

    /// Floats that there is room for.
    pub fn capacity(&self) -> usize {
        match &self.storage {
            Storage::Heap(storage) => storage.capacity().saturating_sub(LINE),
            Storage::Mapped(pages) => pages.len() / size_of::<f32>(),
        }
    }

    fn on_heap(storage: Vec<f32>, len: usize) -> Self {
        let misaligned = (storage.as_ptr() as usize / size_of::<f32>()) % LINE;
        let start = (LINE - misaligned) % LINE;
        Self { storage: Storage::Heap(storage), start, len }
    }

    /// The floats.
    pub fn as_slice(&self) -> &[f32] {
        &self.storage.floats()[self.start..self.start + self.len]
    }

    /// The floats, to write.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        let floats = match &mut self.storage {
            Storage::Heap(floats) => floats.as_mut_slice(),
            Storage::Mapped(pages) => bytemuck::cast_slice_mut(pages),
        };
        &mut floats[self.start..self.start + self.len]
    }
}

/// Asks for pages of 2 MiB: a page at a time, memory that is written for the first time costs several times what the write does,
/// above all in a virtual machine. A system that has none gives small ones.
#[cfg(target_os = "linux")]
fn prefer_huge_pages(pages: &MmapMut) {
    let _ = pages.advise(memmap2::Advice::HugePage);
}

#[cfg(not(target_os = "linux"))]
fn prefer_huge_pages(_: &MmapMut) {}

impl Deref for AlignedBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.as_slice()
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.as_mut_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_keeps_its_memory_where_there_is_room() {
        for len in [0, 1, 1000, MAPPED - 1, MAPPED, MAPPED + 5] {
            let mut buffer = AlignedBuffer::zeroed(len);
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|x| *x == 0.0));
            assert!(buffer.is_empty() || (buffer.as_ptr() as usize).is_multiple_of(64));
            buffer.fill(1.0);
            let capacity = buffer.capacity();
            let at = buffer.as_ptr();
            for smaller in [len / 2, len] {
                buffer = buffer.resized(smaller);
                assert_eq!((buffer.len(), buffer.capacity(), buffer.as_ptr()), (smaller, capacity, at));
                assert!((buffer.as_ptr() as usize).is_multiple_of(64) || buffer.is_empty());
            }
            assert!(buffer.resized(capacity + 1).capacity() > capacity);
        }
    }
}
