//! Batch-invariant attention over a paged KV cache, for decoding and for whole sequences alike.
//!
//! Keys and values are in blocks of [`BLOCK`] tokens, laid out for the register tile: a block's
//! keys have the tokens along the lanes (`[dim, BLOCK]`), its values the features (`[panel of
//! features, BLOCK, PANEL]`). A sequence is a list of blocks, so that sequences can share the
//! blocks of a common prefix. A query's scores, softmax and weighted sum run over the keys in
//! ascending order; its result has the same bits whether it is one of many queries of a prefill or
//! decoded alone.

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::aligned::AlignedBuffer;
use super::gemm::threads_for;
use super::packed::PANEL;
use super::rowwise::unnormalized_softmax;
use super::tile::{InitialSum, TileOutput, multiply_tile, pack_tile, tiles};

/// Tokens per block.
pub const BLOCK: usize = PANEL;
/// Queries per task of a thread.
const TASK_QUERIES: usize = 48;
/// Query rows whose scores are in memory at a time; a multiple of every tile's height.
const ROWS: usize = 48;

/// The heads of an attention layer (grouped-query attention).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Number of query heads.
    pub query: usize,
    /// Number of key and value heads; each serves `query / key_value` query heads.
    pub key_value: usize,
    /// Features per head.
    pub dim: usize,
}

impl Heads {
    fn value_dim(self) -> usize {
        self.dim.next_multiple_of(PANEL)
    }

    /// Returns the floats of a block of keys, `[key_value, dim, BLOCK]`.
    pub fn key_block(self) -> usize {
        self.key_value * self.dim * BLOCK
    }

    /// Returns the floats of a block of values, `[key_value, panels, BLOCK, PANEL]`.
    pub fn value_block(self) -> usize {
        self.key_value * self.value_dim() * BLOCK
    }
}

/// Memory of a KV cache: blocks of keys and values of one layer.
#[derive(Debug)]
pub struct KvBlocks {
    heads: Heads,
    keys: AlignedBuffer,
    values: AlignedBuffer,
}

impl KvBlocks {
    /// Allocates `count` blocks.
    pub fn zeroed(heads: Heads, count: usize) -> Self {
        let keys = AlignedBuffer::zeroed(count * heads.key_block());
        let values = AlignedBuffer::zeroed(count * heads.value_block());
        Self { heads, keys, values }
    }

    /// Writes the key and value of one token, each `[key_value, dim]`, at `offset` in a block.
    pub fn store(&mut self, block: usize, offset: usize, key: &[f32], value: &[f32]) {
        let Heads { dim, .. } = self.heads;
        let keys = &mut self.keys[block * self.heads.key_block()..][..self.heads.key_block()];
        for (lane, x) in keys[offset..].iter_mut().step_by(BLOCK).zip(key) {
            *lane = *x;
        }
        let values = &mut self.values[block * self.heads.value_block()..][..self.heads.value_block()];
        let heads = values.chunks_exact_mut(self.heads.value_dim() * BLOCK).zip(value.chunks_exact(dim));
        for (panels, value) in heads {
            for (panel, features) in panels.chunks_exact_mut(BLOCK * PANEL).zip(value.chunks(PANEL)) {
                panel[offset * PANEL..][..features.len()].copy_from_slice(features);
            }
        }
    }

    /// Copies a block over another.
    pub fn copy(&mut self, from: usize, to: usize) {
        let (keys, values) = (self.heads.key_block(), self.heads.value_block());
        self.keys.copy_within(from * keys..(from + 1) * keys, to * keys);
        self.values.copy_within(from * values..(from + 1) * values, to * values);
    }

    /// Returns a head's keys `[dim, BLOCK]` and values `[panels, BLOCK, PANEL]` in a block.
    #[inline(always)]
    fn head(&self, block: u32, head: usize) -> (&[f32], &[f32]) {
        let (keys, values) = (self.heads.dim * BLOCK, self.heads.value_dim() * BLOCK);
        let at = block as usize * self.heads.key_value + head;
        (&self.keys[at * keys..][..keys], &self.values[at * values..][..values])
    }
}

/// Consecutive queries of one sequence and the keys that they attend to.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Number of queries; segments follow one another in the rows of `q`.
    pub queries: usize,
    /// Number of keys that the first query attends to.
    pub first_limit: usize,
    /// Whether each further query attends to one more key (causal attention); otherwise all attend
    /// to the same keys.
    pub causal: bool,
    /// Blocks of the sequence, from its first token on.
    pub blocks: &'a [u32],
}

impl Segment<'_> {
    #[inline(always)]
    fn limit(&self, query: usize) -> usize {
        self.first_limit + if self.causal { query } else { 0 }
    }
}

/// Computes `out = softmax(scale q kᵀ) v`. `q` has rows `[query heads, dim]` that are `stride`
/// floats apart, `out` is contiguous, `[queries, query heads, dim]`. Segments follow one another in
/// the rows.
pub fn attend(q: &[f32], stride: usize, blocks: &KvBlocks, segments: &[Segment<'_>], scale: f32, out: &mut [f32]) {
    let heads = blocks.heads;
    let width = heads.query * heads.dim;
    let work: usize = segments.iter().map(|s| s.queries * s.limit(s.queries.saturating_sub(1)) * width * 2).sum();
    let is_parallel = threads_for(work) > 1;
    let mut tasks = Vec::new();
    let (mut row, mut out) = (0, out);
    for segment in segments {
        let at_once = if is_parallel { TASK_QUERIES } else { segment.queries.max(1) };
        for first in (0..segment.queries).step_by(at_once) {
            let queries = at_once.min(segment.queries - first);
            let (mine, rest) = out.split_at_mut(queries * width);
            tasks.push(Task { q: &q[row * stride..], stride, blocks, segment, first, scale, out: mine });
            row += queries;
            out = rest;
        }
    }
    if is_parallel {
        tasks.into_par_iter().for_each(run_task);
    } else {
        tasks.into_iter().for_each(run_task);
    }
}

/// Queries of one segment, from its query `first` on.
struct Task<'a> {
    q: &'a [f32],
    stride: usize,
    blocks: &'a KvBlocks,
    segment: &'a Segment<'a>,
    first: usize,
    scale: f32,
    out: &'a mut [f32],
}

/// Scratch memory of a thread, reused between calls.
#[derive(Default)]
struct Scratch {
    /// Scaled queries in tiles, `[dim, rows]` each.
    queries: Vec<f32>,
    /// Scores, `[rows, keys]`.
    scores: Vec<f32>,
    /// Unnormalized probabilities in transposed tiles, `[keys, rows]` each.
    weights: Vec<f32>,
    /// Weighted sums of values, `[rows, value_dim]`.
    sums: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

fn run_task(task: Task<'_>) {
    SCRATCH.with_borrow_mut(|scratch| Arch::new().dispatch(Attend { task, scratch }));
}

struct Attend<'a> {
    task: Task<'a>,
    scratch: &'a mut Scratch,
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { task, scratch } = self;
        let heads = task.blocks.heads;
        let group = heads.query / heads.key_value;
        let rows = task.out.len() / heads.dim / heads.key_value;
        for head in 0..heads.key_value {
            let mut first = 0;
            while first < rows {
                // A row is a query of one of the heads that share this key head.
                let count = ROWS.min(rows - first);
                let place = |i: usize| ((first + i) / group, head * group + (first + i) % group);
                attend_rows(simd, &task, scratch, head, count, place);
                let sums = scratch.sums.chunks_exact(heads.value_dim());
                for (i, sums) in sums.enumerate() {
                    let (query, h) = place(i);
                    task.out[(query * heads.query + h) * heads.dim..][..heads.dim].copy_from_slice(&sums[..heads.dim]);
                }
                first += count;
            }
        }
    }
}

/// Attends rows to one key head; the result is in `scratch.sums`.
///
/// Within a block of keys or values the tiles of rows take turns, so that the block is loaded into
/// the first-level cache once.
#[inline(always)]
fn attend_rows<S: Simd>(
    simd: S,
    task: &Task<'_>,
    scratch: &mut Scratch,
    head: usize,
    rows: usize,
    place: impl Fn(usize) -> (usize, usize),
) {
    let Heads { dim, .. } = task.blocks.heads;
    let value_dim = task.blocks.heads.value_dim();
    let Scratch { queries, scores, weights, sums } = scratch;
    queries.resize(ROWS * dim, 0.0);
    for (first, tile) in tiles::<S>(rows) {
        for i in 0..tile {
            let (query, h) = place(first + i);
            let q = &task.q[query * task.stride + h * dim..][..dim];
            for (lane, x) in queries[first * dim + i..].iter_mut().step_by(tile).zip(q) {
                *lane = *x * task.scale;
            }
        }
    }
    let limit = |i: usize| task.segment.limit(task.first + place(i).0);
    // Number of blocks that a tile attends to.
    let seen = |first: usize, tile: usize| limit(first + tile - 1).div_ceil(BLOCK);
    let blocks = &task.segment.blocks[..limit(rows - 1).div_ceil(BLOCK)];
    let keys = blocks.len() * BLOCK;
    scores.resize(rows * keys, 0.0);
    for (b, block) in blocks.iter().enumerate() {
        let (key, _) = task.blocks.head(*block, head);
        for (first, tile) in tiles::<S>(rows).filter(|(first, tile)| b < seen(*first, *tile)) {
            let out = &mut scores[first * keys..];
            let sums = TileOutput { start: InitialSum::Zero, out, stride: keys, column: b * BLOCK };
            multiply_tile(simd, tile, &queries[first * dim..][..dim * tile], key, sums);
        }
    }
    weights.resize(rows * keys, 0.0);
    let mut totals = [1f32; ROWS];
    for (first, tile) in tiles::<S>(rows) {
        let seen = seen(first, tile) * BLOCK;
        for i in first..first + tile {
            totals[i] = unnormalized_softmax(simd, &mut scores[i * keys..][..seen], limit(i));
        }
        pack_tile(&scores[first * keys..], keys, 1, tile, seen, &mut weights[first * keys..][..seen * tile]);
    }
    sums.resize(rows * value_dim, 0.0);
    if blocks.is_empty() {
        sums.fill(0.0);
    }
    let mut start = InitialSum::Zero;
    for (b, block) in blocks.iter().enumerate() {
        let (_, values) = task.blocks.head(*block, head);
        for (p, panel) in values.chunks_exact(BLOCK * PANEL).enumerate() {
            for (first, tile) in tiles::<S>(rows).filter(|(first, tile)| b < seen(*first, *tile)) {
                let weights = &weights[first * keys + b * BLOCK * tile..][..BLOCK * tile];
                let out = &mut sums[first * value_dim..];
                let out = TileOutput { start, out, stride: value_dim, column: p * PANEL };
                multiply_tile(simd, tile, weights, panel, out);
            }
        }
        start = InitialSum::Output;
    }
    for (sums, total) in sums.chunks_exact_mut(value_dim).zip(totals) {
        let scale = 1.0 / total;
        sums.iter_mut().for_each(|x| *x *= scale);
    }
}
