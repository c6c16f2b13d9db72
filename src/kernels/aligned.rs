//! A buffer of floats aligned to a cache line, so that no vector load straddles two lines.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Floats in a cache line.
const LINE: usize = 16;

/// Number of floats from which a buffer is a memory mapping of its own, which is returned to the
/// system when it is freed. glibc's per-thread heaps have 64 MiB each: freed blocks of a large part
/// of that size leave holes that cannot be reused.
const MAPPED: usize = 1 << 20;

/// A buffer of floats that starts on a 64-byte boundary.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    storage: Storage,
    start: usize,
    len: usize,
}

#[derive(Debug)]
enum Storage {
    Heap(Vec<f32>),
    /// Whole pages, which are aligned.
    Mapped(MmapMut),
}

impl Default for Storage {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl AlignedBuffer {
    /// Returns a buffer of `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        if len >= MAPPED
            && let Ok(pages) = MmapMut::map_anon(len * size_of::<f32>())
        {
            prefer_huge_pages(&pages);
            return Self { storage: Storage::Mapped(pages), start: 0, len };
        }
        Self::on_heap(vec![0f32; len + LINE], len)
    }

    /// Returns a buffer of `len` floats with unspecified contents, in the same memory if its
    /// capacity suffices.
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

    /// Returns the number of floats that fit without a new allocation.
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
}

/// Advises the system to use huge pages (2 MiB). With small pages the first write to memory costs
/// several times the write itself, above all in a virtual machine. A system without huge pages
/// ignores it.
#[cfg(target_os = "linux")]
fn prefer_huge_pages(pages: &MmapMut) {
    let _ = pages.advise(memmap2::Advice::HugePage);
}

#[cfg(not(target_os = "linux"))]
fn prefer_huge_pages(_: &MmapMut) {}

impl Deref for AlignedBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let floats = match &self.storage {
            Storage::Heap(floats) => floats.as_slice(),
            Storage::Mapped(pages) => bytemuck::cast_slice(pages),
        };
        &floats[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        let floats = match &mut self.storage {
            Storage::Heap(floats) => floats.as_mut_slice(),
            Storage::Mapped(pages) => bytemuck::cast_slice_mut(pages),
        };
        &mut floats[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_keeps_its_memory_within_its_capacity() {
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
