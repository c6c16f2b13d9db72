//! Random choices from one stream, in sequence.

use std::num::NonZeroU64;

use crate::random::Stream;

/// A random stream with a position. Results are integers, so a choice is the same on every machine.
pub(super) struct SceneRng {
    stream: Stream,
    position: u64,
}

impl SceneRng {
    /// Starts at the stream's first position.
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, position: 0 }
    }

    /// Returns a number in 0..bound; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = NonZeroU64::new(bound as u64).unwrap_or(NonZeroU64::MIN);
        self.position += 1;
        self.stream.below(self.position - 1, bound) as usize
    }

    /// Returns a number from `low` to `high`, both inclusive.
    pub(super) fn between(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1).max(1) as usize) as i32
    }

    /// Returns true with a probability of `percent` %.
    pub(super) fn random_bool(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Returns one of the items with equal probability. `items` must not be empty.
    pub(super) fn choose<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// Returns an index with probability proportional to its weight; 0 if all weights are 0.
    pub(super) fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut left = self.below(weights.iter().sum::<u64>() as usize) as u64;
        for (index, &weight) in weights.iter().enumerate() {
            if left < weight {
                return index;
            }
            left -= weight;
        }
        0
    }

    /// Returns the items in a random order.
    pub(super) fn shuffled<T: Clone>(&mut self, items: &[T]) -> Vec<T> {
        let mut items = items.to_vec();
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
        items
    }
}
