//! Memory for activations and packed matrices that is used again.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use crate::kernels::aligned::AlignedBuffer;
use crate::kernels::packed::{PANEL, PackedMatrix};

/// Floats of the largest packed matrix whose memory is kept: beyond it memory counts for more than the time to clear it.
const MAX_POOLED_FLOATS: usize = 1 << 22;

/// Bytes that are kept from one part of a pass to the next where memory is short: all that a small model needs, and of a large one little
/// beside its weights.
const SMALL_POOL_BYTES: usize = 32 << 20;

/// Memory that was given back.
#[derive(Debug)]
pub(in crate::training) struct BufferPool {
    /// Bytes that are kept from one part of a pass to the next.
    kept: usize,
    vectors: Mutex<Vec<AlignedBuffer>>,
    packed: Mutex<Vec<AlignedBuffer>>,
}

impl BufferPool {
    /// Memory that is used again throughout a pass: within its parts, and, with `throughout`, from one part and one pass to the next. It
    /// is for passes that keep all of their activations: beside these, what a part leaves is little.
    pub(in crate::training) fn new(throughout: bool) -> Self {
        let kept = if throughout { usize::MAX } else { SMALL_POOL_BYTES };
        Self { kept, vectors: Mutex::default(), packed: Mutex::default() }
    }

    /// A vector of `len` numbers, whatever they are: the smallest that is free and has room, or a new one.
    pub(super) fn take(&self, len: usize) -> AlignedBuffer {
        take_best_fit(&self.vectors, len).unwrap_or_default().resized(len)
    }

    /// Takes back what is no longer needed.
    pub(super) fn give<const N: usize>(&self, buffers: [AlignedBuffer; N]) {
        self.vectors.lock().unwrap_or_else(PoisonError::into_inner).extend(buffers);
    }

    /// Lets go of what is free, if it is more than is kept. Called where one part of a pass ends: the next is of other sizes (a tower, the head),
    /// and would take its memory beside it.
    pub(in crate::training) fn trim(&self) {
        let mut vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        let floats = vectors.iter().map(AlignedBuffer::capacity).sum::<usize>();
        let floats = floats + packed.iter().map(AlignedBuffer::capacity).sum::<usize>();
        if floats * size_of::<f32>() > self.kept {
            vectors.clear();
            packed.clear();
        }
    }

    /// A vector of `len` numbers, whatever they are: this one, if it has that length.
    pub(super) fn fit(&self, buffer: AlignedBuffer, len: usize) -> AlignedBuffer {
        if buffer.len() == len {
            return buffer;
        }
        self.give([buffer]);
        self.take(len)
    }

    /// [`PackedMatrix::pack`].
    pub(super) fn pack(&self, weight: &[f32], outputs: usize, inputs: usize) -> PooledMatrix<'_> {
        self.packed(outputs, inputs, |memory| PackedMatrix::pack_into(memory, weight, outputs, inputs))
    }

    /// [`PackedMatrix::pack_transposed`] of a contiguous matrix `[inputs, outputs]`.
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

/// Takes the smallest that has room for `len` and not for more than twice as much. Where there is none, the largest that is too small
/// goes, so that batches that grow do not leave a set of buffers each.
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

/// A packed matrix whose memory goes back to the buffers.
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
    fn a_buffer_that_was_used_for_less_still_has_its_room() {
        let buffers = BufferPool::new(false);
        let capacity = AlignedBuffer::zeroed(1000).capacity();
        buffers.give([AlignedBuffer::zeroed(1000)]);
        for len in [1000, 600, 1000, 500, 1000] {
            let buffer = buffers.take(len);
            assert_eq!((buffer.len(), buffer.capacity()), (len, capacity));
            buffers.give([buffer]);
        }
        assert!(buffers.take(capacity / 2 - 1).capacity() < capacity);
        assert!(buffers.take(capacity + 1).capacity() > capacity);
    }

    #[test]
    fn batches_that_grow_leave_no_buffers_behind() {
        let buffers = BufferPool::new(true);
        for len in (1000..3000).step_by(10) {
            let (first, second) = (buffers.take(len), buffers.take(len));
            buffers.give([first, second]);
        }
        assert_eq!(buffers.vectors.lock().unwrap().len(), 2);
    }

    #[test]
    fn what_is_free_is_let_go_of_when_it_is_much() {
        let free = |buffers: &BufferPool| buffers.vectors.lock().unwrap().len() + buffers.packed.lock().unwrap().len();
        let buffers = BufferPool::new(false);
        drop(buffers.pack(&[1.0; 64], 8, 8));
        buffers.give([AlignedBuffer::zeroed(SMALL_POOL_BYTES / 8)]);
        buffers.trim();
        assert_eq!(free(&buffers), 2);
        buffers.give([AlignedBuffer::zeroed(SMALL_POOL_BYTES / 8)]);
        buffers.trim();
        assert_eq!(free(&buffers), 0);
        let throughout = BufferPool::new(true);
        throughout.give([AlignedBuffer::zeroed(SMALL_POOL_BYTES)]);
        throughout.trim();
        assert_eq!(free(&throughout), 1);
    }
}
