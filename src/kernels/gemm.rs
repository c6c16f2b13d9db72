//! The matrix product of rows with a packed weight: `y = x Wᵀ + b`.
//!
//! Every output is one chain of fused multiply-adds over the inputs in ascending order, starting from the bias.
//! It therefore has the same bits for any number of rows, threads or neighbours, which is what makes a sample
//! independent of its batch, and training see the log-probabilities that sampling saw.

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::packed::{PANEL, PackedMatrix};
use super::tile::{TILE, multiply_tile, tile_rows};

/// Rows that share one pass over the weight.
const ROW_BLOCK: usize = 8 * TILE;
/// Inputs of one pass: the block of rows stays in the second-level cache, a panel's slice in the first.
const INPUT_BLOCK: usize = 384;
/// Multiply-adds below which another thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 19;

thread_local! {
    /// The packed block of rows, kept between calls.
    static ROWS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `out[m, n] = bias[n] + sum_k x[m, k] w[n, k]`, rows of `x` being `stride` apart.
pub fn linear(x: &[f32], stride: usize, weight: &PackedMatrix, bias: Option<&[f32]>, out: &mut [f32]) {
    let outputs = weight.outputs();
    if outputs == 0 || out.is_empty() {
        return;
    }
    let rows = out.len() / outputs;
    let threads = threads_for(rows * outputs * weight.inputs());
    if threads == 1 {
        fill_bias(out, outputs, bias);
        multiply(x, stride, weight.inputs(), weight.panels(), out, outputs);
    } else if rows >= 2 * TILE {
        // Whole tiles a thread; every thread streams the weight.
        let share = rows.div_ceil(threads).next_multiple_of(TILE);
        out.par_chunks_mut(share * outputs).enumerate().for_each(|(i, out)| {
            fill_bias(out, outputs, bias);
            multiply(&x[i * share * stride..], stride, weight.inputs(), weight.panels(), out, outputs);
        });
    } else {
        linear_by_panels(x, stride, weight, bias, out, threads);
    }
}

/// Few rows: each thread takes some panels of the weight, so that it is read only once.
fn linear_by_panels(
    x: &[f32],
    stride: usize,
    weight: &PackedMatrix,
    bias: Option<&[f32]>,
    out: &mut [f32],
    threads: usize,
) {
    let (outputs, inputs) = (weight.outputs(), weight.inputs());
    let rows = out.len() / outputs;
    let panels = outputs.div_ceil(PANEL);
    // More shares than threads: one that is held up does not hold up all.
    let share = panels.div_ceil(4 * threads) * PANEL;
    let mut columns = vec![0f32; rows * outputs];
    columns.par_chunks_mut(share * rows).enumerate().for_each(|(i, out)| {
        let width = out.len() / rows;
        fill_bias(out, width, bias.map(|b| &b[i * share..i * share + width]));
        let panels = &weight.panels()[i * share * inputs..][..width.next_multiple_of(PANEL) * inputs];
        multiply(x, stride, inputs, panels, out, width);
    });
    for (i, block) in columns.chunks(share * rows).enumerate() {
        let width = block.len() / rows;
        for (row, values) in out.chunks_exact_mut(outputs).zip(block.chunks_exact(width)) {
            row[i * share..i * share + width].copy_from_slice(values);
        }
    }
}

/// How many threads of the current pool some work is worth.
pub(super) fn threads_for(multiply_adds: usize) -> usize {
    rayon::current_num_threads().min(multiply_adds / WORTH_A_THREAD).max(1)
}

fn fill_bias(out: &mut [f32], outputs: usize, bias: Option<&[f32]>) {
    match bias {
        Some(bias) => out.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias)),
        None => out.fill(0.0),
    }
}

/// `out[m, n] += sum_k x[m, k] panels[n, k]` on this thread.
fn multiply(x: &[f32], stride: usize, inputs: usize, panels: &[f32], out: &mut [f32], outputs: usize) {
    ROWS.with_borrow_mut(|packed| {
        packed.resize(ROW_BLOCK * INPUT_BLOCK, 0.0);
        Arch::new().dispatch(Multiply { x, stride, inputs, panels, out, outputs, packed });
    });
}

struct Multiply<'a> {
    x: &'a [f32],
    stride: usize,
    inputs: usize,
    panels: &'a [f32],
    out: &'a mut [f32],
    outputs: usize,
    packed: &'a mut [f32],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, stride, inputs, panels, out, outputs, packed } = self;
        for (block, out) in out.chunks_mut(ROW_BLOCK * outputs).enumerate() {
            let x = &x[block * ROW_BLOCK * stride..];
            let rows = out.len() / outputs;
            for from in (0..inputs).step_by(INPUT_BLOCK) {
                let depth = INPUT_BLOCK.min(inputs - from);
                pack_rows::<S>(&x[from..], stride, rows, depth, packed);
                for (p, panel) in panels.chunks_exact(PANEL * inputs).enumerate() {
                    let panel = &panel[from * PANEL..(from + depth) * PANEL];
                    let mut first = 0;
                    while first < rows {
                        let tile = tile_rows::<S>(rows - first);
                        let a = &packed[first * depth..(first + tile) * depth];
                        multiply_tile(simd, tile, a, panel, &mut out[first * outputs..], outputs, p * PANEL);
                        first += tile;
                    }
                }
            }
        }
    }
}

/// Copies `[rows, depth]` into tiles `[depth, tile]`, one after the other.
#[inline(always)]
fn pack_rows<S: Simd>(x: &[f32], stride: usize, rows: usize, depth: usize, packed: &mut [f32]) {
    let mut first = 0;
    while first < rows {
        let tile = tile_rows::<S>(rows - first);
        let packed = &mut packed[first * depth..(first + tile) * depth];
        for i in 0..tile {
            let row = &x[(first + i) * stride..][..depth];
            for (lane, value) in packed[i..].iter_mut().step_by(tile).zip(row) {
                *lane = *value;
            }
        }
        first += tile;
    }
}
