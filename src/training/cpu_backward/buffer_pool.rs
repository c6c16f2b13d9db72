//! A pool of buffers for activations and packed matrices, reused during training.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use crate::kernels::aligned::AlignedBuffer;
use crate::kernels::packed::{PANEL, PackedMatrix};

/// Floats of the largest packed matrix that returns to the pool; for larger ones the memory matters
/// more than the time to allocate it.
const MAX_POOLED_FLOATS: usize = 1 << 22;

/// Bytes that stay in the pool between the parts of a pass when memory is short: enough for
/// everything of a small model, and small next to the weights of a large one.
const SMALL_POOL_BYTES: usize = 32 << 20;

/// A pool of free buffers.
#[derive(Debug)]
pub(crate) struct BufferPool {
    /// Largest number of bytes that stay in the pool between the parts of a pass.
    max_kept_bytes: usize,
    vectors: Mutex<Vec<AlignedBuffer>>,
    packed: Mutex<Vec<AlignedBuffer>>,
}

impl BufferPool {
    /// Returns an empty pool. Buffers are reused within each part of a pass and, if `keep_all`,
    /// also across parts and passes. That suits passes that keep all of their activations, next to
    /// which the free buffers are small.
    pub(crate) fn new(keep_all: bool) -> Self {
        let max_kept_bytes = if keep_all { usize::MAX } else { SMALL_POOL_BYTES };
        Self { max_kept_bytes, vectors: Mutex::default(), packed: Mutex::default() }
    }

    /// Takes a buffer of `len` floats of any value: the free one that fits best, or a new one.
    pub(super) fn take(&self, len: usize) -> AlignedBuffer {
        take_best_fit(&self.vectors, len).unwrap_or_default().resized(len)
    }

    /// Returns buffers to the pool.
    pub(super) fn put_back<const N: usize>(&self, buffers: [AlignedBuffer; N]) {
        self.vectors.lock().unwrap_or_else(PoisonError::into_inner).extend(buffers);
    }

    /// Frees all free buffers if they exceed the limit. Called at the end of each part of a pass,
    /// since the next part (a tower, the LM head) needs other sizes, which would be allocated in
    /// addition.
    pub(crate) fn trim(&self) {
        let mut vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        let floats = vectors.iter().map(AlignedBuffer::capacity).sum::<usize>();
        let floats = floats + packed.iter().map(AlignedBuffer::capacity).sum::<usize>();
        if floats * size_of::<f32>() > self.max_kept_bytes {
            vectors.clear();
            packed.clear();
        }
    }

    /// Returns `buffer` if it has `len` floats, otherwise exchanges it for one that has, with
    /// unspecified contents.
    pub(super) fn fit(&self, buffer: AlignedBuffer, len: usize) -> AlignedBuffer {
        if buffer.len() == len {
            return buffer;
        }
        self.put_back([buffer]);
        self.take(len)
    }

    /// Packs a weight into a pooled buffer, as [`PackedMatrix::pack`] does.
    pub(super) fn pack(&self, weight: &[f32], outputs: usize, inputs: usize) -> PooledMatrix<'_> {
        self.packed(outputs, inputs, |memory| PackedMatrix::pack_into(memory, weight, outputs, inputs))
    }

    /// Packs the transpose of a contiguous matrix `[inputs, outputs]` into a pooled buffer, as
    /// [`PackedMatrix::pack_transposed`] does.
    pub(super) fn pack_transposed(&self, matrix: &[f32], inputs: usize, outputs: usize) -> PooledMatrix<'_> {
        let pack = |memory| PackedMatrix::pack_transposed_into(memory, matrix, outputs, inputs, outputs);
        self.packed(outputs, inputs, pack)
    }

    fn packed(
        &self,
        outputs: usize,
        inputs: usize,
        pack: impl FnOnce(AlignedBuffer) -> PackedMatrix,
    ) -> PooledMatrix<'_> {
        let len = outputs.next_multiple_of(PANEL) * inputs;
        let memory = take_best_fit(&self.packed, len).unwrap_or_default();
        PooledMatrix { matrix: pack(memory), buffers: self }
    }
}

/// Removes the smallest buffer with a capacity of `len` to `2 * len`. If there is none, frees the
/// largest that is too small, so that growing batches do not leave a set of buffers each.
fn take_best_fit(free: &Mutex<Vec<AlignedBuffer>>, len: usize) -> Option<AlignedBuffer> {
    let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
    let best = (free.iter().enumerate())
        .filter(|(_, buffer)| buffer.capacity() >= len && buffer.capacity() / 2 <= len)
        .min_by_key(|(_, buffer)| buffer.capacity());
    let Some((place, _)) = best else {
        let too_small = free.iter().enumerate().filter(|(_, buffer)| buffer.capacity() < len);
        let largest = too_small.max_by_key(|(_, buffer)| buffer.capacity()).map(|(place, _)| place);
        largest.into_iter().for_each(|place| drop(free.swap_remove(place)));
        return None;
    };
    Some(free.swap_remove(place))
}

/// A packed matrix whose memory returns to the pool when it is dropped.
pub(super) struct PooledMatrix<'a> {
    matrix: PackedMatrix,
    buffers: &'a BufferPool,
}

impl Deref for PooledMatrix<'_> {
    type Target = PackedMatrix;

    fn deref(&self) -> &PackedMatrix {
        &self.matrix
    }
}

impl Drop for PooledMatrix<'_> {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.matrix).into_memory();
        if memory.capacity() > MAX_POOLED_FLOATS {
            return;
        }
        self.buffers.packed.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_keeps_its_capacity_when_used_for_less() {
        let buffers = BufferPool::new(false);
        let capacity = AlignedBuffer::zeroed(1000).capacity();
        buffers.put_back([AlignedBuffer::zeroed(1000)]);
        for len in [1000, 600, 1000, 500, 1000] {
            let buffer = buffers.take(len);
            assert_eq!((buffer.len(), buffer.capacity()), (len, capacity));
            buffers.put_back([buffer]);
        }
        assert!(buffers.take(capacity / 2 - 1).capacity() < capacity);
        assert!(buffers.take(capacity + 1).capacity() > capacity);
    }

    #[test]
    fn growing_batches_leave_no_buffers_behind() {
        let buffers = BufferPool::new(true);
        for len in (1000..3000).step_by(10) {
            let (first, second) = (buffers.take(len), buffers.take(len));
            buffers.put_back([first, second]);
        }
        assert_eq!(buffers.vectors.lock().unwrap().len(), 2);
    }

    #[test]
    fn free_buffers_above_the_limit_are_released() {
        let free = |buffers: &BufferPool| buffers.vectors.lock().unwrap().len() + buffers.packed.lock().unwrap().len();
        let buffers = BufferPool::new(false);
        drop(buffers.pack(&[1.0; 64], 8, 8));
        buffers.put_back([AlignedBuffer::zeroed(SMALL_POOL_BYTES / 8)]);
        buffers.trim();
        assert_eq!(free(&buffers), 2);
        buffers.put_back([AlignedBuffer::zeroed(SMALL_POOL_BYTES / 8)]);
        buffers.trim();
        assert_eq!(free(&buffers), 0);
        let keep_all = BufferPool::new(true);
        keep_all.put_back([AlignedBuffer::zeroed(SMALL_POOL_BYTES)]);
        keep_all.trim();
        assert_eq!(free(&keep_all), 1);
    }
}
