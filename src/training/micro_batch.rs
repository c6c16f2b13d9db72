//! Trees cut into micro-batches: what is computed at once.

use std::sync::Arc;

use super::TrainingError;
use super::picture::Picture;
use super::tree::Tree;
use crate::vlm::config::Config;
use crate::vlm::grid::Grid;
use crate::vlm::ops::{Segments, Shared};
use crate::vlm::rope::mrope_positions;

/// A part of a tree: its prefix and some of its branches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    tree: &'a Tree,
    /// The first of its branches.
    first: usize,
    /// How many of them.
    count: usize,
    /// The number of its first target among all targets of the batch.
    first_target: usize,
}

/// Trees that go through the model together.
#[derive(Debug)]
pub(super) struct MicroBatch {
    /// All tokens: each tree's prefix, then its branches.
    pub(super) ids: Vec<u32>,
    /// `[time, row, column]` of each token.
    pub(super) positions: Vec<[u32; 3]>,
    /// Who sees whom.
    pub(super) segments: Segments,
    /// The images, each once.
    pub(super) images: Vec<Arc<Picture>>,
    /// For each image token among `ids`, in order, its row among the tokens of `images`.
    pub(super) image_rows: Vec<u32>,
    /// For each target, the token whose output predicts it.
    pub(super) rows: Vec<u32>,
    /// The tokens among `rows`, each once and ascending: all that the last layer has to put out.
    pub(super) needed: Vec<u32>,
    /// For each target, the place of its row in `needed`.
    pub(super) places: Vec<u32>,
    /// The targets.
    pub(super) targets: Vec<u32>,
    /// For each target, its number among the targets of the batch.
    pub(super) numbers: Vec<usize>,
}

/// Cuts a batch into micro-batches of at most `limit` tokens, in order; a branch is never cut.
pub(super) fn cut(trees: &[Tree], limit: usize) -> Vec<Vec<Piece<'_>>> {
    let mut batches: Vec<Vec<Piece<'_>>> = Vec::new();
    let mut filled = usize::MAX;
    let mut number = 0;
    for tree in trees {
        let mut open = false;
        for (b, branch) in tree.branches.iter().enumerate() {
            let tokens = branch.ids.len() + if open { 0 } else { tree.prefix.len() };
            if filled.saturating_add(tokens) > limit {
                batches.push(Vec::new());
                (filled, open) = (0, false);
            }
            if let Some(batch) = batches.last_mut() {
                if !open {
                    batch.push(Piece { tree, first: b, count: 0, first_target: number });
                    filled += tree.prefix.len();
                    open = true;
                }
                if let Some(piece) = batch.last_mut() {
                    piece.count += 1;
                }
            }
            filled += branch.ids.len();
            number += branch.targets().len();
        }
    }
    batches
}

impl MicroBatch {
    /// Lays the pieces out one after the other.
    pub(super) fn new(pieces: &[Piece<'_>], config: &Config) -> Result<Self, TrainingError> {
        let merge = config.vision.spatial_merge_size;
        let mut batch = Self {
            ids: Vec::new(),
            positions: Vec::new(),
            segments: Segments::shared(Vec::new()),
            images: Vec::new(),
            image_rows: Vec::new(),
            rows: Vec::new(),
            needed: Vec::new(),
            places: Vec::new(),
            targets: Vec::new(),
            numbers: Vec::new(),
        };
        let mut shared = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let tree = piece.tree;
            let grids: Vec<Grid> = tree.images.iter().map(|image| image.grid()).collect();
            let mut positions = mrope_positions(&tree.prefix, config.tokens.image, &grids, merge)?;
            for image in &tree.images {
                batch.place(image, merge);
            }
            let last = (batch.ids.len() + tree.prefix.len() - 1) as u32;
            batch.ids.extend_from_slice(&tree.prefix);
            batch.positions.append(&mut positions.tokens);
            let branches = &tree.branches[piece.first..piece.first + piece.count];
            let mut number = piece.first_target;
            for branch in branches {
                let start = batch.ids.len() as u32;
                batch.ids.extend_from_slice(&branch.ids);
                batch.positions.extend((0..branch.ids.len() as u32).map(|i| [positions.next + i; 3]));
                for (i, target) in branch.ids.iter().enumerate().skip(branch.first_target) {
                    batch.rows.push(if i == 0 { last } else { start + i as u32 - 1 });
                    batch.targets.push(*target);
                    batch.numbers.push(number);
                    number += 1;
                }
            }
            shared
                .push(Shared { prompt: tree.prefix.len(), responses: branches.iter().map(|b| b.ids.len()).collect() });
        }
        batch.segments = Segments::shared(shared);
        batch.needed.clone_from(&batch.rows);
        batch.needed.sort_unstable();
        batch.needed.dedup();
        let place = |row| batch.needed.partition_point(|needed| needed < row) as u32;
        batch.places = batch.rows.iter().map(place).collect();
        Ok(batch)
    }

    /// Enters the rows of an image, which is added unless it is here already.
    fn place(&mut self, image: &Arc<Picture>, merge: usize) {
        let mut row = 0;
        let mut known = false;
        for other in &self.images {
            if Arc::ptr_eq(other, image) {
                known = true;
                break;
            }
            row += other.grid().tokens(merge) as u32;
        }
        if !known {
            self.images.push(image.clone());
        }
        self.image_rows.extend(row..row + image.grid().tokens(merge) as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::Branch;
    use super::*;

    #[test]
    fn every_branch_is_in_one_micro_batch_and_keeps_its_number() {
        let branch = |tokens: usize, first_target: usize| Branch { ids: vec![0; tokens], first_target };
        let tree = |prefix: usize, branches: Vec<Branch>| Tree { prefix: vec![0; prefix], images: vec![], branches };
        let trees = [
            tree(4, vec![branch(3, 0), branch(3, 1), branch(9, 0)]),
            tree(1, vec![branch(1, 0)]),
            tree(30, vec![branch(1, 0), branch(2, 0)]),
        ];
        let cuts = cut(&trees, 10);
        let shape: Vec<Vec<(usize, usize, usize)>> =
            cuts.iter().map(|b| b.iter().map(|p| (p.first, p.count, p.first_target)).collect()).collect();
        // 4 + 3 + 3 fit; 9 needs its prefix again and is too long for anything beside it; so is every branch of the last.
        assert_eq!(shape, [vec![(0, 2, 0)], vec![(2, 1, 5)], vec![(0, 1, 14)], vec![(0, 1, 15)], vec![(1, 1, 16)]]);
        let whole = cut(&trees, 1000);
        assert_eq!(whole.len(), 1);
        assert_eq!(whole[0].len(), 3);
    }
}
