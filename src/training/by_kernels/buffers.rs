//! Memory for activations that is used again.

use std::sync::{Mutex, PoisonError};

/// Vectors that were given back.
#[derive(Debug, Default)]
pub(in crate::training) struct Buffers(Mutex<Vec<Vec<f32>>>);

impl Buffers {
    /// A vector of `len` numbers, whatever they are: the smallest that is free and has room, or a new one.
    pub(super) fn take(&self, len: usize) -> Vec<f32> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let best = (free.iter().enumerate())
            .filter(|(_, buffer)| buffer.capacity() >= len && buffer.capacity() / 2 <= len)
            .min_by_key(|(_, buffer)| buffer.capacity());
        match best.map(|(place, _)| place) {
            Some(place) => {
                let mut buffer = free.swap_remove(place);
                buffer.resize(len, 0.0);
                buffer
            }
            None => vec![0.0; len],
        }
    }

    /// Takes back what is no longer needed.
    pub(super) fn give<const N: usize>(&self, buffers: [Vec<f32>; N]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(buffers);
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
