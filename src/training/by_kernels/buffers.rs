//! Memory for activations that is used again.

use std::sync::{Mutex, PoisonError};

/// Vectors that were given back.
#[derive(Debug, Default)]
pub(in crate::training) struct Buffers(Mutex<Vec<Vec<f32>>>);

impl Buffers {
    /// A vector of `len` numbers, whatever they are: the smallest that is free and large enough, or a new one.
    pub(super) fn take(&self, len: usize) -> Vec<f32> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let best = (free.iter().enumerate())
            .filter(|(_, buffer)| buffer.len() >= len && buffer.len() / 2 <= len)
            .min_by_key(|(_, buffer)| buffer.len());
        match best.map(|(place, _)| place) {
            Some(place) => {
                let mut buffer = free.swap_remove(place);
                buffer.truncate(len);
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
