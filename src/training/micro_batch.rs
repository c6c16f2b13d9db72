//! Micro-batches: prefix groups, split and packed for one forward and backward pass.

use std::sync::Arc;

use super::Result;
use super::prefix_group::PrefixGroup;
use super::prepared_image::PreparedImage;
use crate::vlm::config::Config;
use crate::vlm::grid::Grid;
use crate::vlm::ops::{Segments, SharedPrompt};
use crate::vlm::rope::mrope_positions;

/// A prefix group's prefix with a contiguous range of its continuations.
#[derive(Debug, Clone, Copy)]
pub(super) struct PrefixGroupSlice<'a> {
    prefix_group: &'a PrefixGroup,
    /// Index of the first continuation.
    first: usize,
    /// Number of continuations.
    count: usize,
    /// Index of the first target among all targets of the batch.
    first_target: usize,
}

/// The tokens of one forward and backward pass, concatenated without padding.
#[derive(Debug, Default)]
pub(super) struct MicroBatch {
    /// Token ids: each group's prefix, then its continuations.
    pub(super) ids: Vec<u32>,
    /// M-RoPE position `[time, row, column]` of each token.
    pub(super) positions: Vec<[u32; 3]>,
    /// Attention pattern: a continuation sees its prefix and itself, causally.
    pub(super) segments: Segments,
    /// The distinct images.
    pub(super) images: Vec<Arc<PreparedImage>>,
    /// For each image token of `ids`, in order, its row among the image features of `images`.
    pub(super) image_rows: Vec<u32>,
    /// For each target, the index of the token whose output predicts it.
    pub(super) rows: Vec<u32>,
    /// The distinct values of `rows`, ascending: the tokens whose output the last layer computes.
    pub(super) needed: Vec<u32>,
    /// For each target, the index of its row in `needed`.
    pub(super) rows_in_needed: Vec<u32>,
    /// Token ids of the targets.
    pub(super) targets: Vec<u32>,
    /// For each target, its index among all targets of the batch.
    pub(super) target_indexes: Vec<usize>,
}

/// Splits a batch into micro-batches of at most `limit` tokens, in order. A continuation is never
/// split: a longer one is a micro-batch of its own. A prefix is repeated in every micro-batch that
/// has some of its continuations.
pub(super) fn split_into_micro_batches(prefix_groups: &[PrefixGroup], limit: usize) -> Vec<Vec<PrefixGroupSlice<'_>>> {
    let mut batches: Vec<Vec<PrefixGroupSlice<'_>>> = Vec::new();
    let mut filled = usize::MAX;
    let mut number = 0;
    for prefix_group in prefix_groups {
        let mut open = false;
        for (b, continuation) in prefix_group.continuations.iter().enumerate() {
            let tokens = continuation.ids.len() + if open { 0 } else { prefix_group.prefix.len() };
            if filled.saturating_add(tokens) > limit {
                batches.push(Vec::new());
                (filled, open) = (0, false);
            }
            if let Some(batch) = batches.last_mut() {
                if !open {
                    batch.push(PrefixGroupSlice { prefix_group, first: b, count: 0, first_target: number });
                    filled += prefix_group.prefix.len();
                    open = true;
                }
                if let Some(slice) = batch.last_mut() {
                    slice.count += 1;
                }
            }
            filled += continuation.ids.len();
            number += continuation.targets().len();
        }
    }
    batches
}

impl MicroBatch {
    /// Concatenates the slices.
    pub(super) fn new(slices: &[PrefixGroupSlice<'_>], config: &Config) -> Result<Self> {
        let merge = config.vision.spatial_merge_size;
        let mut batch = Self::default();
        let mut shared = Vec::with_capacity(slices.len());
        for slice in slices {
            let prefix_group = slice.prefix_group;
            let grids: Vec<Grid> = prefix_group.images.iter().map(|image| image.grid()).collect();
            let mut positions = mrope_positions(&prefix_group.prefix, config.tokens.image, &grids, merge)?;
            for image in &prefix_group.images {
                batch.add_image(image, merge);
            }
            let last = (batch.ids.len() + prefix_group.prefix.len() - 1) as u32;
            batch.ids.extend_from_slice(&prefix_group.prefix);
            batch.positions.append(&mut positions.tokens);
            let continuations = &prefix_group.continuations[slice.first..slice.first + slice.count];
            let mut number = slice.first_target;
            for continuation in continuations {
                let start = batch.ids.len() as u32;
                batch.ids.extend_from_slice(&continuation.ids);
                batch.positions.extend((0..continuation.ids.len() as u32).map(|i| [positions.next + i; 3]));
                for (i, target) in continuation.ids.iter().enumerate().skip(continuation.first_target) {
                    batch.rows.push(if i == 0 { last } else { start + i as u32 - 1 });
                    batch.targets.push(*target);
                    batch.target_indexes.push(number);
                    number += 1;
                }
            }
            shared.push(SharedPrompt {
                prompt: prefix_group.prefix.len(),
                responses: continuations.iter().map(|b| b.ids.len()).collect(),
            });
        }
        batch.segments = Segments::shared(shared);
        batch.needed.clone_from(&batch.rows);
        batch.needed.sort_unstable();
        batch.needed.dedup();
        let place = |row| batch.needed.partition_point(|needed| needed < row) as u32;
        batch.rows_in_needed = batch.rows.iter().map(place).collect();
        Ok(batch)
    }

    /// Appends the feature rows of an image, adding the image unless it is already here.
    fn add_image(&mut self, image: &Arc<PreparedImage>, merge: usize) {
        let tokens = |image: &Arc<PreparedImage>| image.grid().tokens(merge) as u32;
        let place = self.images.iter().position(|other| Arc::ptr_eq(other, image)).unwrap_or(self.images.len());
        let row: u32 = self.images[..place].iter().map(tokens).sum();
        if place == self.images.len() {
            self.images.push(image.clone());
        }
        self.image_rows.extend(row..row + tokens(image));
    }
}

#[cfg(test)]
mod tests {
    use super::super::prefix_group::Continuation;
    use super::*;

    #[test]
    fn every_continuation_is_in_one_micro_batch_and_keeps_its_index() {
        let continuation = |tokens: usize, first_target: usize| Continuation { ids: vec![0; tokens], first_target };
        let prefix_group = |prefix: usize, continuations: Vec<Continuation>| PrefixGroup {
            prefix: vec![0; prefix],
            images: vec![],
            continuations,
        };
        let prefix_groups = [
            prefix_group(4, vec![continuation(3, 0), continuation(3, 1), continuation(9, 0)]),
            prefix_group(1, vec![continuation(1, 0)]),
            prefix_group(30, vec![continuation(1, 0), continuation(2, 0)]),
        ];
        let cuts = split_into_micro_batches(&prefix_groups, 10);
        let shape: Vec<Vec<(usize, usize, usize)>> =
            cuts.iter().map(|b| b.iter().map(|p| (p.first, p.count, p.first_target)).collect()).collect();
        // 4 + 3 + 3 fit. 9 repeats its prefix and is too long to share a micro-batch; so is every
        // continuation of the last group.
        assert_eq!(shape, [vec![(0, 2, 0)], vec![(2, 1, 5)], vec![(0, 1, 14)], vec![(0, 1, 15)], vec![(1, 1, 16)]]);
        let whole = split_into_micro_batches(&prefix_groups, 1000);
        assert_eq!(whole.len(), 1);
        assert_eq!(whole[0].len(), 3);
    }
}
