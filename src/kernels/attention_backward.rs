//! The backward pass of attention, which recomputes the probabilities.
//!
//! With P = softmax(scale q kᵀ), o = P v and the gradient g of o (Dao et al. 2022, arXiv
//! 2205.14135, appendix B.2):
//!
//! ```text
//!     dv = Pᵀ g
//!     dP = g vᵀ
//!     dS = P (dP - rowsum(P dP))
//!     dq = scale dS k
//!     dk = scale dSᵀ q
//! ```
//!
//! A task is one key head of one token group; it processes the queries in order, so every sum
//! has a fixed order for any number of threads.

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::attention::Heads;
use super::exponential::exp;
use super::gemm::threads_for;
use super::packed::PANEL;
use super::rowwise::largest;
use super::tile::{InitialSum, TileOutput, multiply_rows, multiply_tile, pack_tile, tiles};

/// Query rows whose probabilities are in memory at a time; a multiple of every tile's height.
const ROWS: usize = 48;

/// A group of tokens that share a prefix: a prompt, and responses that each attend to the prompt
/// and to themselves.
#[derive(Debug, Clone, Copy)]
pub struct TokenGroup<'a> {
    /// Number of tokens of the prompt, which come first.
    pub prompt: usize,
    /// Number of tokens of each response; they follow in order.
    pub responses: &'a [usize],
    /// Whether a token attends only to itself and earlier tokens of its own sequence.
    pub causal: bool,
}

impl TokenGroup<'_> {
    /// Returns the number of tokens.
    pub fn tokens(&self) -> usize {
        self.prompt + self.responses.iter().sum::<usize>()
    }
}

/// Rows of floats; row `i` starts at `i * stride`.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Floats of all rows.
    pub data: &'a [f32],
    /// Distance between the starts of consecutive rows, in floats.
    pub stride: usize,
}

impl<'a> Rows<'a> {
    fn skip_rows(self, row: usize) -> Self {
        Self { data: self.data.get(row * self.stride..).unwrap_or_default(), ..self }
    }
}

/// Inputs of the backward pass: those of the forward pass and the gradient of its output.
#[derive(Debug, Clone, Copy)]
pub struct BackwardInputs<'a> {
    /// Queries, rows of `[query heads, dim]`.
    pub q: Rows<'a>,
    /// Keys, rows of `[key heads, dim]`.
    pub k: Rows<'a>,
    /// Values, rows of `[key heads, dim]`.
    pub v: Rows<'a>,
    /// Gradient of the output, rows of `[query heads, dim]`.
    pub gradient: Rows<'a>,
}

/// Computes the gradients of queries, keys and values, as contiguous rows. Groups follow one
/// another in the rows.
pub fn attend_backward(
    inputs: &BackwardInputs<'_>,
    heads: Heads,
    groups: &[TokenGroup<'_>],
    scale: f32,
    [dq, dk, dv]: [&mut [f32]; 3],
) {
    let share = heads.query / heads.key_value * heads.dim;
    let part = share + 2 * heads.dim;
    let tokens: usize = groups.iter().map(TokenGroup::tokens).sum();
    let mut results = vec![0f32; tokens * heads.key_value * part];
    let mut tasks = Vec::with_capacity(groups.len() * heads.key_value);
    let (mut rest, mut first, mut work) = (results.as_mut_slice(), 0, 0);
    for group in groups {
        let count = group.tokens();
        let longest = group.prompt + group.responses.iter().max().unwrap_or(&0);
        work += count * longest * heads.query * heads.dim * 5;
        let inputs = BackwardInputs {
            q: inputs.q.skip_rows(first),
            k: inputs.k.skip_rows(first),
            v: inputs.v.skip_rows(first),
            gradient: inputs.gradient.skip_rows(first),
        };
        for head in 0..heads.key_value {
            let (result, after) = rest.split_at_mut(count * part);
            rest = after;
            tasks.push(Task { inputs, heads, head, group: *group, scale, result });
        }
        first += count;
    }
    if threads_for(work) == 1 {
        tasks.iter_mut().for_each(run_task);
    } else {
        tasks.par_iter_mut().for_each(run_task);
    }
    let mut first = 0;
    for task in &tasks {
        let count = task.group.tokens();
        let (q, kv) = task.result.split_at(count * share);
        let (k, v) = kv.split_at(count * heads.dim);
        copy_columns(q, share, &mut dq[first * heads.query * heads.dim..], heads.key_value, task.head);
        copy_columns(k, heads.dim, &mut dk[first * heads.key_value * heads.dim..], heads.key_value, task.head);
        copy_columns(v, heads.dim, &mut dv[first * heads.key_value * heads.dim..], heads.key_value, task.head);
        first += if task.head + 1 == heads.key_value { count } else { 0 };
    }
}

/// Writes contiguous rows of `width` to part `place` of the `parts` of each row of `out`.
fn copy_columns(rows: &[f32], width: usize, out: &mut [f32], parts: usize, place: usize) {
    for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(width * parts)) {
        out[place * width..][..width].copy_from_slice(row);
    }
}

/// One key head of one group, with the query heads that share it.
struct Task<'a> {
    inputs: BackwardInputs<'a>,
    heads: Heads,
    head: usize,
    group: TokenGroup<'a>,
    scale: f32,
    /// `dq [tokens, group * dim]`, then `dk [tokens, dim]`, then `dv [tokens, dim]`.
    result: &'a mut [f32],
}

/// Scratch memory of a thread, reused between calls. Keys and values are in blocks of [`PANEL`]
/// tokens; the prompt and each response begin a new block.
#[derive(Default)]
struct Scratch {
    /// Keys and values with tokens along the lanes, `[block, dim, PANEL]`.
    keys: Vec<f32>,
    values: Vec<f32>,
    /// Keys with features along the lanes, `[block, panel of features, PANEL, PANEL]`.
    key_rows: Vec<f32>,
    /// Gradients of keys and values, `[tokens in blocks, value_dim]`.
    dk: Vec<f32>,
    dv: Vec<f32>,
    /// Scaled queries and output gradients of a block of rows, `[panel of features, ROWS, PANEL]`.
    queries: Vec<f32>,
    gradients: Vec<f32>,
    /// Queries or gradients in tiles, `[dim, tile]` each.
    tiled: Vec<f32>,
    /// Probabilities P, and gradients of the scores dS, `[ROWS, keys]`.
    weights: Vec<f32>,
    score_gradients: Vec<f32>,
    /// Gradients of the scores in transposed tiles, `[keys, tile]` each.
    transposed: Vec<f32>,
    /// Gradients of the queries, `[ROWS, value_dim]`.
    sums: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

fn run_task(task: &mut Task<'_>) {
    SCRATCH.with_borrow_mut(|scratch| Arch::new().dispatch(AttendBackward { task, scratch }));
}

struct AttendBackward<'a, 'b> {
    task: &'a mut Task<'b>,
    scratch: &'a mut Scratch,
}

/// Consecutive tokens of a group whose first token begins a block.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    tokens: usize,
    /// Index of its first block.
    block: usize,
}

impl Span {
    fn blocks(self) -> usize {
        self.tokens.div_ceil(PANEL)
    }
}

impl WithSimd for AttendBackward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { task, scratch } = self;
        let dim = task.heads.dim;
        let value_dim = dim.next_multiple_of(PANEL);
        let mut spans = Vec::with_capacity(1 + task.group.responses.len());
        let (mut first, mut block) = (0, 0);
        for tokens in std::iter::once(&task.group.prompt).chain(task.group.responses) {
            let span = Span { first, tokens: *tokens, block };
            first += tokens;
            block += span.blocks();
            spans.push(span);
        }
        pack_keys(task, scratch, &spans, block);
        for gradients in [&mut scratch.dk, &mut scratch.dv] {
            gradients.clear();
            gradients.resize(block * PANEL * value_dim, 0.0);
        }
        let prompt = Span { first: 0, tokens: 0, block: 0 };
        for (i, span) in spans.iter().enumerate() {
            let prompt = if i == 0 { prompt } else { spans[0] };
            differentiate_span(simd, task, scratch, prompt, *span);
        }
        let (_, kv) = task.result.split_at_mut(first * dim * (task.heads.query / task.heads.key_value));
        let (dk, dv) = kv.split_at_mut(first * dim);
        for (out, gradients) in [(dk, &scratch.dk), (dv, &scratch.dv)] {
            for span in &spans {
                let rows = gradients[span.block * PANEL * value_dim..].chunks_exact(value_dim);
                for (out, row) in out[span.first * dim..][..span.tokens * dim].chunks_exact_mut(dim).zip(rows) {
                    out.copy_from_slice(&row[..dim]);
                }
            }
        }
    }
}

/// Packs the keys and values of the task's head.
#[inline(always)]
fn pack_keys(task: &Task<'_>, scratch: &mut Scratch, spans: &[Span], blocks: usize) {
    let dim = task.heads.dim;
    let value_dim = dim.next_multiple_of(PANEL);
    for (buffer, len) in [
        (&mut scratch.keys, blocks * dim * PANEL),
        (&mut scratch.values, blocks * dim * PANEL),
        (&mut scratch.key_rows, blocks * value_dim * PANEL),
    ] {
        buffer.clear();
        buffer.resize(len, 0.0);
    }
    for span in spans {
        for i in 0..span.tokens {
            let (block, lane) = (span.block + i / PANEL, i % PANEL);
            let [key, value] =
                [task.inputs.k, task.inputs.v].map(|x| &x.skip_rows(span.first + i).data[task.head * dim..][..dim]);
            for (x, to) in [(key, &mut scratch.keys), (value, &mut scratch.values)] {
                let lanes = to[block * dim * PANEL..].chunks_exact_mut(PANEL);
                x.iter().zip(lanes).for_each(|(x, lanes)| lanes[lane] = *x);
            }
            let panels = scratch.key_rows[block * value_dim * PANEL..].chunks_exact_mut(PANEL * PANEL);
            for (features, panel) in key.chunks(PANEL).zip(panels) {
                panel[lane * PANEL..][..features.len()].copy_from_slice(features);
            }
        }
    }
}

/// Differentiates the queries of one span with respect to the prompt's keys and the span's own.
#[inline(always)]
fn differentiate_span<S: Simd>(simd: S, task: &mut Task<'_>, scratch: &mut Scratch, prompt: Span, span: Span) {
    let Heads { query, key_value, dim } = task.heads;
    let group = query / key_value;
    let value_dim = dim.next_multiple_of(PANEL);
    let rows = span.tokens * group;
    for first in (0..rows).step_by(ROWS) {
        let count = ROWS.min(rows - first);
        let limit = |row: usize| if task.group.causal { row / group + 1 } else { span.tokens };
        let own = limit(first + count - 1).div_ceil(PANEL);
        let blocks = || (0..prompt.blocks()).chain(span.block..span.block + own);
        let keys = (prompt.blocks() + own) * PANEL;
        // One cache line more than the keys: rows a power of two apart would map to the same sets
        // of the cache.
        let stride = keys + 16;
        let masks = |row: usize| [prompt.tokens, prompt.blocks() * PANEL, prompt.blocks() * PANEL + limit(row)];
        pack_queries(task, scratch, span, first, count);
        let Scratch { weights, score_gradients, transposed, sums, tiled, .. } = scratch;
        weights.resize(count * stride, 0.0);
        score_gradients.resize(count * stride, 0.0);
        transposed.resize(count * keys, 0.0);
        tiled.resize(ROWS * dim, 0.0);
        sums.resize(count * value_dim, 0.0);
        // Within a block the tiles of rows take turns, so that the block is loaded into the
        // first-level cache once.
        for (rows, columns, out) in [
            (&scratch.queries, &scratch.keys, &mut *weights),
            (&scratch.gradients, &scratch.values, &mut *score_gradients),
        ] {
            for (row, tile) in tiles::<S>(count) {
                let packed = tiled[row * dim..][..dim * tile].chunks_mut(PANEL * tile);
                for (p, packed) in packed.enumerate() {
                    let depth = packed.len() / tile;
                    pack_tile(&rows[(p * ROWS + row) * PANEL..], PANEL, 1, tile, depth, packed);
                }
            }
            for (b, block) in blocks().enumerate() {
                let columns = &columns[block * dim * PANEL..][..dim * PANEL];
                for (row, tile) in tiles::<S>(count) {
                    let out = &mut out[row * stride..];
                    let sums = TileOutput { start: InitialSum::Zero, out, stride, column: b * PANEL };
                    multiply_tile(simd, tile, &tiled[row * dim..][..dim * tile], columns, sums);
                }
            }
        }
        let rows = weights.chunks_exact_mut(stride).zip(score_gradients.chunks_exact_mut(stride));
        for (i, (weights, score_gradients)) in rows.enumerate() {
            softmax_gradient(simd, &mut weights[..keys], &mut score_gradients[..keys], masks(first + i));
        }
        for (row, tile) in tiles::<S>(count) {
            let packed = &mut transposed[row * keys..][..tile * keys];
            pack_tile(&score_gradients[row * stride..], stride, 1, tile, keys, packed);
        }
        let mut start = InitialSum::Zero;
        for (b, block) in blocks().enumerate() {
            let panels = &scratch.key_rows[block * value_dim * PANEL..][..value_dim * PANEL];
            for (p, panel) in panels.chunks_exact(PANEL * PANEL).enumerate() {
                for (row, tile) in tiles::<S>(count) {
                    let score_gradients = &transposed[row * keys + b * PANEL * tile..][..PANEL * tile];
                    let out = &mut sums[row * value_dim..];
                    let out = TileOutput { start, out, stride: value_dim, column: p * PANEL };
                    multiply_tile(simd, tile, score_gradients, panel, out);
                }
            }
            start = InitialSum::Output;
        }
        let out = task.result[(span.first * group + first) * dim..].chunks_exact_mut(dim);
        for (sums, out) in sums.chunks_exact(value_dim).zip(out) {
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * task.scale);
        }
        let Scratch { weights, score_gradients, queries, gradients, dk, dv, .. } = scratch;
        for (a, rows, out) in [(&*weights, &*gradients, dv), (&*score_gradients, &*queries, dk)] {
            for (b, block) in blocks().enumerate() {
                let out = &mut out[block * PANEL * value_dim..][..PANEL * value_dim];
                add_products(simd, (&a[b * PANEL..], stride), rows, count, out, value_dim);
            }
        }
    }
}

/// Computes `out[key, feature] += sum_row a[row, key] rows[row, feature]` for one block of keys.
#[inline(always)]
fn add_products<S: Simd>(
    simd: S,
    (a, stride): (&[f32], usize),
    rows: &[f32],
    count: usize,
    out: &mut [f32],
    value_dim: usize,
) {
    for (p, panel) in rows.chunks_exact(ROWS * PANEL).enumerate() {
        for (key, tile) in tiles::<S>(PANEL) {
            let out = &mut out[key * value_dim..];
            let sums = TileOutput { start: InitialSum::Output, out, stride: value_dim, column: p * PANEL };
            multiply_rows(simd, tile, (&a[key..], stride), &panel[..count * PANEL], sums);
        }
    }
}

/// Packs `count` rows of queries and output gradients; a row is a query of one head.
#[inline(always)]
fn pack_queries(task: &Task<'_>, scratch: &mut Scratch, span: Span, first: usize, count: usize) {
    let Heads { query, key_value, dim } = task.heads;
    let group = query / key_value;
    let panels = dim.div_ceil(PANEL);
    for (from, to, scale) in
        [(task.inputs.q, &mut scratch.queries, task.scale), (task.inputs.gradient, &mut scratch.gradients, 1.0)]
    {
        to.clear();
        to.resize(panels * ROWS * PANEL, 0.0);
        for i in 0..count {
            let (token, head) = ((first + i) / group, task.head * group + (first + i) % group);
            let row = &from.skip_rows(span.first + token).data[head * dim..][..dim];
            for (features, panel) in row.chunks(PANEL).zip(to.chunks_exact_mut(ROWS * PANEL)) {
                let lanes = &mut panel[i * PANEL..][..features.len()];
                lanes.iter_mut().zip(features).for_each(|(lane, x)| *lane = x * scale);
            }
        }
    }
}

/// Turns a row of scores into probabilities, and their gradients into those of the scores.
///
/// The keys from `masked[0]` to `masked[1]`, and from `masked[2]` on, are masked.
#[inline(always)]
fn softmax_gradient<S: Simd>(simd: S, weights: &mut [f32], score_gradients: &mut [f32], masked: [usize; 3]) {
    let [from, to, end] = masked;
    let fill = |row: &mut [f32], value: f32| {
        row[from..to].fill(value);
        row[end..].fill(value);
    };
    fill(weights, f32::NEG_INFINITY);
    let largest = largest(simd, S::as_simd_f32s(weights).0);
    for v in S::as_mut_simd_f32s(weights).0 {
        *v = exp(simd, simd.sub_f32s(*v, largest));
    }
    fill(weights, 0.0);
    let (weights, _) = S::as_mut_simd_f32s(weights);
    let (score_gradients, _) = S::as_mut_simd_f32s(score_gradients);
    let (mut total, mut mean) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
    for (weight, slope) in weights.iter().zip(score_gradients.iter()) {
        total = simd.add_f32s(total, *weight);
        mean = simd.mul_add_f32s(*weight, *slope, mean);
    }
    let scale = 1.0 / simd.reduce_sum_f32s(total);
    let mean = simd.splat_f32s(simd.reduce_sum_f32s(mean) * scale);
    let scale = simd.splat_f32s(scale);
    for (weight, slope) in weights.iter_mut().zip(score_gradients) {
        *weight = simd.mul_f32s(*weight, scale);
        *slope = simd.mul_f32s(*weight, simd.sub_f32s(*slope, mean));
    }
}
