//! Batch-invariant GEMM: rows times a packed weight, `y = x Wᵀ + b`, and its backward products.
//!
//! Every output is one chain of fused multiply-adds over the inputs in ascending order, starting
//! from the bias. So it has the same bits for any number of rows, any tile and any number of
//! threads: a sample does not depend on its batch, and training computes the log-probabilities that
//! sampling recorded.
//!
//! The loops are those of Goto & van de Geijn 2008 ("Anatomy of high-performance matrix
//! multiplication"): a block of rows is packed into tiles that fit the second-level cache, panels
//! of the weight stream past, and the micro-kernel (`tile.rs`) holds a register tile of sums.

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::packed::{PANEL, PackedMatrix};
use super::tile::{InitialSum, MAX_TILE_ROWS, TileOutput, multiply_tile, pack_tile, tiles};

/// Rows that share one pass over the weight: as many as fit the second-level cache, which is larger
/// on machines with AVX-512. On an Intel Xeon with 2 MiB of it, 16 tiles make the weight's gradient
/// 1 to 9 % faster than 8.
const fn row_block(lanes: usize) -> usize {
    if lanes == 16 { 16 * MAX_TILE_ROWS } else { 8 * MAX_TILE_ROWS }
}

/// Inputs per pass, so that the block of rows stays in the second-level cache and a panel's slice
/// near the first-level cache. No sum depends on it. Speed on the products of models of 1 to 60
/// million parameters, in percent of the core's peak multiply-adds: 93 to 97 on Zen 3 (AVX2; 88 to
/// 93 with 256), 88 to 94 on Zen 4 (AVX-512; 75 to 90 with 384), 74 to 83 on an Intel Xeon with
/// huge pages (AVX-512; 70 to 80 with 192). The AVX-512 numbers are for blocks of 8 tiles.
const INPUT_BLOCK: usize = 512;
/// Rows of memory that are transposed at a time when the left operand runs down the columns: as
/// many as the ways of a first-level cache hold when rows are a power of two apart.
const COLUMN_RUN: usize = 8;
/// Number of multiply-adds below which another thread costs more than it saves.
const MIN_MULTIPLY_ADDS_PER_THREAD: usize = 1 << 19;

thread_local! {
    /// The packed block of rows, reused between calls.
    static ROWS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The left operand of a product: element `(m, k)` is at `m * row + k * step`, and one stride is 1.
#[derive(Clone, Copy)]
struct LeftOperand<'a> {
    data: &'a [f32],
    row: usize,
    step: usize,
}

impl<'a> LeftOperand<'a> {
    fn skip_rows(self, row: usize) -> Self {
        Self { data: &self.data[row * self.row..], ..self }
    }
}

/// Computes `out[m, n] = bias[n] + sum_k x[m, k] w[n, k]`: `x` is `[m, k]` with rows `stride`
/// floats apart, `out` is contiguous.
pub fn linear(x: &[f32], stride: usize, weight: &PackedMatrix, bias: Option<&[f32]>, out: &mut [f32]) {
    gemm(LeftOperand { data: x, row: stride, step: 1 }, weight, bias.map_or(InitialSum::Zero, InitialSum::Bias), out);
}

/// Computes `out[m, n] += sum_k x[m, k] w[n, k]`; rows of `x` are `stride` floats apart.
pub fn add_linear(x: &[f32], stride: usize, weight: &PackedMatrix, out: &mut [f32]) {
    gemm(LeftOperand { data: x, row: stride, step: 1 }, weight, InitialSum::Output, out);
}

/// Computes the gradient of a weight, `out[n, k] = sum_m g[m, n] x[m, k]`, from the output's
/// gradient `g`, whose rows are `stride` floats apart, and the input `x`, packed by
/// [`PackedMatrix::pack_transposed`].
pub fn weight_gradient(g: &[f32], stride: usize, x: &PackedMatrix, out: &mut [f32]) {
    gemm(LeftOperand { data: g, row: 1, step: stride }, x, InitialSum::Zero, out);
}

/// Adds the gradient of a weight ([`weight_gradient`]) to `out`.
pub fn add_weight_gradient(g: &[f32], stride: usize, x: &PackedMatrix, out: &mut [f32]) {
    gemm(LeftOperand { data: g, row: 1, step: stride }, x, InitialSum::Output, out);
}

/// Computes the gradient of a bias, `out[n] = sum_m g[m, n]`. `g` has `rows` rows that are `stride`
/// floats apart; elements after them are not read.
pub fn bias_gradient(g: &[f32], stride: usize, rows: usize, out: &mut [f32]) {
    /// Rows that are added up before they are added to the total.
    const RUN: usize = 64;
    let width = out.len();
    out.fill(0.0);
    let mut sums = vec![0f32; width];
    Arch::new().dispatch(|| {
        for first in (0..rows).step_by(RUN) {
            sums.fill(0.0);
            for row in first..rows.min(first + RUN) {
                sums.iter_mut().zip(&g[row * stride..][..width]).for_each(|(sum, g)| *sum += g);
            }
            out.iter_mut().zip(&sums).for_each(|(out, sum)| *out += sum);
        }
    });
}

fn gemm(x: LeftOperand<'_>, weight: &PackedMatrix, start: InitialSum<'_>, out: &mut [f32]) {
    let outputs = weight.outputs();
    if outputs == 0 || out.is_empty() {
        return;
    }
    if weight.inputs() == 0 {
        return match start {
            InitialSum::Zero => out.fill(0.0),
            InitialSum::Bias(bias) => out.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias)),
            InitialSum::Output => {}
        };
    }
    let rows = out.len() / outputs;
    let threads = threads_for(rows * outputs * weight.inputs());
    if threads == 1 {
        multiply_on_thread(x, weight.inputs(), weight.panels(), start, out, outputs);
    } else if rows >= 2 * MAX_TILE_ROWS {
        // Whole tiles per thread; every thread streams the weight.
        let share = rows.div_ceil(threads).next_multiple_of(MAX_TILE_ROWS);
        out.par_chunks_mut(share * outputs).enumerate().for_each(|(i, out)| {
            multiply_on_thread(x.skip_rows(i * share), weight.inputs(), weight.panels(), start, out, outputs);
        });
    } else {
        gemm_by_panels(x, weight, start, out, threads);
    }
}

/// Computes the product for few rows: each thread takes some panels of the weight, so that it is
/// read only once.
fn gemm_by_panels(x: LeftOperand<'_>, weight: &PackedMatrix, start: InitialSum<'_>, out: &mut [f32], threads: usize) {
    let (outputs, inputs) = (weight.outputs(), weight.inputs());
    let rows = out.len() / outputs;
    let panels = outputs.div_ceil(PANEL);
    // More shares than threads, so that a thread that is delayed does not delay all.
    let share = panels.div_ceil(4 * threads) * PANEL;
    let mut columns = vec![0f32; rows * outputs];
    if let InitialSum::Output = start {
        for (i, block) in columns.chunks_mut(share * rows).enumerate() {
            let width = block.len() / rows;
            for (row, values) in out.chunks_exact(outputs).zip(block.chunks_exact_mut(width)) {
                values.copy_from_slice(&row[i * share..i * share + width]);
            }
        }
    }
    columns.par_chunks_mut(share * rows).enumerate().for_each(|(i, out)| {
        let width = out.len() / rows;
        let start = start.columns(i * share, i * share + width);
        let panels = &weight.panels()[i * share * inputs..][..width.next_multiple_of(PANEL) * inputs];
        multiply_on_thread(x, inputs, panels, start, out, width);
    });
    for (i, block) in columns.chunks(share * rows).enumerate() {
        let width = block.len() / rows;
        for (row, values) in out.chunks_exact_mut(outputs).zip(block.chunks_exact(width)) {
            row[i * share..i * share + width].copy_from_slice(values);
        }
    }
}

/// Returns the number of threads of the current pool to use for this many multiply-adds.
pub(super) fn threads_for(multiply_adds: usize) -> usize {
    rayon::current_num_threads().min(multiply_adds / MIN_MULTIPLY_ADDS_PER_THREAD).max(1)
}

/// Computes `out[m, n] = start + sum_k x[m, k] panels[n, k]` on this thread.
fn multiply_on_thread(
    x: LeftOperand<'_>,
    inputs: usize,
    panels: &[f32],
    start: InitialSum<'_>,
    out: &mut [f32],
    outputs: usize,
) {
    ROWS.with_borrow_mut(|packed| {
        Arch::new().dispatch(Multiply { x, inputs, panels, start, out, outputs, packed });
    });
}

struct Multiply<'a> {
    x: LeftOperand<'a>,
    inputs: usize,
    panels: &'a [f32],
    start: InitialSum<'a>,
    out: &'a mut [f32],
    outputs: usize,
    packed: &'a mut Vec<f32>,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, inputs, panels, start, out, outputs, packed } = self;
        let row_block = const { row_block(S::F32_LANES) };
        packed.resize(row_block * INPUT_BLOCK, 0.0);
        for (block, out) in out.chunks_mut(row_block * outputs).enumerate() {
            let x = x.skip_rows(block * row_block);
            let rows = out.len() / outputs;
            for from in (0..inputs).step_by(INPUT_BLOCK) {
                let depth = INPUT_BLOCK.min(inputs - from);
                let start = if from == 0 { start } else { InitialSum::Output };
                pack_rows::<S>(x, from, rows, depth, packed);
                for (p, panel) in panels.chunks_exact(PANEL * inputs).enumerate() {
                    let panel = &panel[from * PANEL..(from + depth) * PANEL];
                    for (first, tile) in tiles::<S>(rows) {
                        let a = &packed[first * depth..(first + tile) * depth];
                        let out = &mut out[first * outputs..];
                        let out = TileOutput { start, out, stride: outputs, column: p * PANEL };
                        multiply_tile(simd, tile, a, panel, out);
                    }
                }
            }
        }
    }
}

/// Packs `[rows, depth]`, from column `from` on, into tiles `[depth, tile]`, one after the other.
#[inline(always)]
fn pack_rows<S: Simd>(x: LeftOperand<'_>, from: usize, rows: usize, depth: usize, packed: &mut [f32]) {
    // If consecutive `k` are in different rows of memory, all tiles read their part of a few of
    // these rows before they leave the cache.
    let run = if x.step == 1 { depth } else { COLUMN_RUN };
    for k in (0..depth).step_by(run) {
        let run = run.min(depth - k);
        for (first, tile) in tiles::<S>(rows) {
            let packed = &mut packed[first * depth + k * tile..][..run * tile];
            pack_tile(&x.data[first * x.row + (from + k) * x.step..], x.row, x.step, tile, run, packed);
        }
    }
}
