//! A buffer of floats that starts on a cache line, so that no vector load straddles two.

/// Floats in a cache line.
const LINE: usize = 16;

/// Floats whose first element lies on a 64-byte boundary.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    storage: Vec<f32>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// A buffer of `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        Self::aligned(vec![0f32; len + LINE], len)
    }

    /// A buffer of `len` floats, whatever they are, in the same memory if there is room.
    pub fn resized(self, len: usize) -> Self {
        let mut storage = self.storage;
        if storage.capacity() < len + LINE {
            return Self::zeroed(len);
        }
        storage.resize(len + LINE, 0.0);
        Self::aligned(storage, len)
    }

    /// Floats that there is room for.
    pub fn capacity(&self) -> usize {
        self.storage.capacity().saturating_sub(LINE)
    }

    fn aligned(storage: Vec<f32>, len: usize) -> Self {
        let misaligned = (storage.as_ptr() as usize / size_of::<f32>()) % LINE;
        let start = (LINE - misaligned) % LINE;
        Self { storage, start, len }
    }

    /// The floats.
    pub fn as_slice(&self) -> &[f32] {
        &self.storage[self.start..self.start + self.len]
    }

    /// The floats, to write.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.storage[self.start..self.start + self.len]
    }
}
