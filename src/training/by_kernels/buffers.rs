//! Memory for activations and packed matrices that is used again.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use crate::kernels::aligned::AlignedBuffer;
use crate::kernels::packed::{PANEL, PackedMatrix};

/// Floats of the largest packed matrix whose memory is kept: beyond it memory counts for more than the time to clear it.
const LARGEST: usize = 1 << 22;

/// Memory that was given back.
#[derive(Debug, Default)]
pub(in crate::training) struct Buffers {
    vectors: Mutex<Vec<Vec<f32>>>,
    packed: Mutex<Vec<AlignedBuffer>>,
}

impl Buffers {
    /// A vector of `len` numbers, whatever they are: the smallest that is free and has room, or a new one.
    pub(super) fn take(&self, len: usize) -> Vec<f32> {
        match best(&self.vectors, len, Vec::capacity) {
            Some(mut buffer) => {
                buffer.resize(len, 0.0);
                buffer
            }
            None => vec![0.0; len],
        }
    }

    /// Takes back what is no longer needed.
    pub(super) fn give<const N: usize>(&self, buffers: [Vec<f32>; N]) {
        self.vectors.lock().unwrap_or_else(PoisonError::into_inner).extend(buffers);
    }

    /// A vector of `len` numbers, whatever they are: this one, if it has that length.
    pub(super) fn fit(&self, buffer: Vec<f32>, len: usize) -> Vec<f32> {
        if buffer.len() == len {
            return buffer;
        }
        self.give([buffer]);
        self.take(len)
    }

    /// [`PackedMatrix::pack`].
    pub(super) fn pack(&self, weight: &[f32], outputs: usize, inputs: usize) -> Packed<'_> {
        self.packed(outputs, inputs, |memory| PackedMatrix::pack_into(memory, weight, outputs, inputs))
    }

    /// [`PackedMatrix::pack_transposed`] of a contiguous matrix `[inputs, outputs]`.
    pub(super) fn pack_transposed(&self, matrix: &[f32], inputs: usize, outputs: usize) -> Packed<'_> {
        let pack = |memory| PackedMatrix::pack_transposed_into(memory, matrix, outputs, inputs, outputs);
        self.packed(outputs, inputs, pack)
    }

    fn packed(&self, outputs: usize, inputs: usize, pack: impl FnOnce(AlignedBuffer) -> PackedMatrix) -> Packed<'_> {
        let len = outputs.next_multiple_of(PANEL) * inputs;
        let memory = best(&self.packed, len, AlignedBuffer::capacity).unwrap_or_default();
        Packed { matrix: pack(memory), buffers: self }
    }
}

/// Takes the smallest that has room for `len` and not for more than twice as much.
fn best<T>(free: &Mutex<Vec<T>>, len: usize, capacity: impl Fn(&T) -> usize) -> Option<T> {
    let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
    let best = (free.iter().enumerate())
        .filter(|(_, buffer)| capacity(buffer) >= len && capacity(buffer) / 2 <= len)
        .min_by_key(|(_, buffer)| capacity(buffer));
    let place = best.map(|(place, _)| place)?;
    Some(free.swap_remove(place))
}

/// A packed matrix whose memory goes back to the buffers.
pub(super) struct Packed<'a> {
    matrix: PackedMatrix,
    buffers: &'a Buffers,
}

impl Deref for Packed<'_> {
    type Target = PackedMatrix;

    fn deref(&self) -> &PackedMatrix {
        &self.matrix
    }
}

impl Drop for Packed<'_> {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.matrix).into_memory();
        if memory.capacity() > LARGEST {
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
        let buffers = Buffers::default();
        buffers.give([vec![0.0; 1000]]);
        for len in [1000, 600, 1000, 500, 1000] {
            let buffer = buffers.take(len);
            assert_eq!((buffer.len(), buffer.capacity()), (len, 1000));
            buffers.give([buffer]);
        }
        assert_eq!(buffers.take(499).capacity(), 499);
        assert_eq!(buffers.take(1001).capacity(), 1001);
    }
}
