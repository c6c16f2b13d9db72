//! Selection of the images and rows for a round and for each of its training steps: pure functions
//! of ids, seeds and counts.

use super::seeds::derive_seed;
use crate::ids::Digest;

/// Orders items by a hash of the seed and each item's id, so that additional items do not change
/// the order of the others.
pub fn rank_by_seed<T: Copy>(items: &[T], seed: u64, id: impl Fn(T) -> Digest) -> Vec<T> {
    let seed = seed.to_le_bytes();
    let rank = |item: T| Digest::derive("visplay 2026 rank", &[&seed, id(item).as_bytes()]);
    let mut ranked: Vec<(Digest, T)> = items.iter().map(|&item| (rank(item), item)).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, item)| item).collect()
}

/// Returns the slice of a round (from 1): the `size` items after those of the round before,
/// cyclically. A size of 0 takes all items.
pub fn slice<T: Copy>(items: &[T], round: u32, size: usize) -> Vec<T> {
    if size == 0 || size >= items.len() {
        return items.to_vec();
    }
    let start = (round as usize - 1) * size;
    (start..start + size).map(|i| items[i % items.len()]).collect()
}

/// Returns the items of each training step: epochs over all items, each in an order of its own. No
/// step has an item twice.
pub fn batches<T: Copy>(items: &[T], steps: u32, size: usize, seed: u64, id: impl Fn(T) -> Digest) -> Vec<Vec<T>> {
    let size = size.min(items.len());
    let (mut batches, mut remaining, mut epoch) = (Vec::new(), Vec::<T>::new(), 0u64);
    for _ in 0..steps {
        if items.is_empty() {
            break;
        }
        // An epoch's end that is too short for a step is dropped, so no step has an item twice.
        if remaining.len() < size {
            let order = derive_seed(seed, &["epoch", &epoch.to_string()]);
            remaining = rank_by_seed(items, order, &id);
            remaining.reverse();
            epoch += 1;
        }
        batches.push(remaining.split_off(remaining.len() - size).into_iter().rev().collect());
    }
    batches
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn id(n: u32) -> Digest {
        Digest::of(&n.to_le_bytes())
    }

    #[test]
    fn rounds_take_slices_of_their_own() {
        let items: Vec<u32> = (0..10).collect();
        let slices: Vec<Vec<u32>> = (1..=4).map(|round| slice(&items, round, 3)).collect();
        assert_eq!(slices, [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7, 8], vec![9, 0, 1]]);
        assert_eq!(slice(&items, 7, 0), items);
        assert_eq!(slice(&items, 2, 50), items);
    }

    #[test]
    fn more_items_leave_the_order_of_the_others() {
        let few = rank_by_seed(&(0..20).collect::<Vec<u32>>(), 7, id);
        let mut more = rank_by_seed(&(0..40).collect::<Vec<u32>>(), 7, id);
        more.retain(|n| *n < 20);
        assert_eq!(few, more);
        assert_ne!(few, rank_by_seed(&(0..20).collect::<Vec<u32>>(), 8, id));
    }

    #[test]
    fn steps_go_through_all_items_before_one_comes_again() {
        let items: Vec<u32> = (0..12).collect();
        let steps = batches(&items, 6, 4, 1, id);
        assert_eq!(steps.len(), 6);
        for epoch in steps.chunks(3) {
            let seen: BTreeSet<u32> = epoch.iter().flatten().copied().collect();
            assert_eq!(seen.len(), 12);
        }
        assert_ne!(steps[..3], steps[3..]);
        assert_eq!(batches(&items, 2, 50, 1, id)[0].len(), 12);
        assert!(batches(&[], 3, 4, 1, id).is_empty());
    }
}
