//! The micro-kernel of the matrix products: a register tile of a few rows by one panel, accumulated
//! in vector registers.

use pulp::Simd;

use super::packed::PANEL;

/// Rows of the largest tile: 12 x 2 of the 32 AVX-512 registers hold sums; with AVX2, 3 x 4 of 16
/// do, and 3 divides 12.
pub(super) const MAX_TILE_ROWS: usize = 12;

/// Initial value of the sums of a product.
#[derive(Clone, Copy)]
pub(super) enum InitialSum<'a> {
    Zero,
    /// A value for each output, `[outputs]`.
    Bias(&'a [f32]),
    /// The current contents of the output.
    Output,
}

impl InitialSum<'_> {
    /// Returns the initial value of a range of outputs.
    pub(super) fn columns(self, from: usize, to: usize) -> Self {
        match self {
            Self::Bias(bias) => Self::Bias(&bias[from..to]),
            other => other,
        }
    }
}

/// Destination of a tile's sums: the columns from `column` on, one panel wide, of rows that are
/// `stride` floats long.
pub(super) struct TileOutput<'a> {
    pub(super) start: InitialSum<'a>,
    pub(super) out: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) column: usize,
}

/// Returns the height of the next tile when `left` rows are left.
#[inline(always)]
pub(super) fn tile_rows<S: Simd>(left: usize) -> usize {
    match (S::F32_LANES, left) {
        (16, MAX_TILE_ROWS..) => MAX_TILE_ROWS,
        (16, 8..) => 8,
        (16, 4..) => 4,
        (8, 3..) => 3,
        (8 | 16, 2..) => 2,
        _ => 1,
    }
}

/// Returns the tiles of `rows` rows: the first row of each and its number of rows.
#[inline(always)]
pub(super) fn tiles<S: Simd>(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let tile = (first < rows).then(|| (first, tile_rows::<S>(rows - first)))?;
        first += tile.1;
        Some(tile)
    })
}

/// Calls [`tile`] with the height of a tile of `rows` rows, and with the vectors of a panel.
macro_rules! by_height {
    ($simd:ty, $rows:expr, $arguments:tt) => {
        by_height!($simd, $rows, $arguments, (16, 12) => 12 x 2, (16, 8) => 8 x 2, (16, 4) => 4 x 2,
            (16, 2) => 2 x 2, (16, _) => 1 x 2, (8, 3) => 3 x 4, (8, 2) => 2 x 4, (8, _) => 1 x 4, (4, _) => 1 x 8,
            (_, _) => 1 x 32)
    };
    ($simd:ty, $rows:expr, $arguments:tt, $($height:pat => $r:literal x $v:literal),*) => {
        match (<$simd>::F32_LANES, $rows) {
            $($height => tile::<$simd, $r, $v>$arguments,)*
        }
    };
}

/// Computes `out[i, column + n] = start + sum_k a[k, i] panel[k, n]` for a tile of [`tile_rows`]
/// rows; `a` is `[k, rows]`.
///
/// Each sum is one chain of fused multiply-adds in ascending `k`, whatever the tile:
/// batch invariance depends on this.
#[inline(always)]
pub(super) fn multiply_tile<S: Simd>(simd: S, rows: usize, a: &[f32], panel: &[f32], sums: TileOutput<'_>) {
    by_height!(S, rows, (simd, a.as_chunks().0.iter(), panel, sums));
}

/// Computes [`multiply_tile`] with `a[k, i]` at `k * a_stride + i`: the sum runs over the rows of a
/// matrix.
#[inline(always)]
pub(super) fn multiply_rows<S: Simd>(
    simd: S,
    rows: usize,
    (a, a_stride): (&[f32], usize),
    panel: &[f32],
    sums: TileOutput<'_>,
) {
    by_height!(S, rows, (simd, strided(a, a_stride), panel, sums));
}

/// Returns the first `R` elements of each row.
#[inline(always)]
fn strided<const R: usize>(a: &[f32], stride: usize) -> impl Iterator<Item = &[f32; R]> {
    a.chunks(stride).map_while(|row| row.first_chunk::<R>())
}

/// Packs `rows` rows, whose element `(i, k)` is at `i * row + k * step`, to `[depth, rows]`.
#[inline(always)]
pub(super) fn pack_tile(x: &[f32], row: usize, step: usize, rows: usize, depth: usize, packed: &mut [f32]) {
    match (step, rows) {
        (1, 12) => transpose::<12>(x, row, depth, packed),
        (1, 8) => transpose::<8>(x, row, depth, packed),
        (1, 4) => transpose::<4>(x, row, depth, packed),
        (1, 3) => transpose::<3>(x, row, depth, packed),
        (1, 2) => transpose::<2>(x, row, depth, packed),
        (_, 12) if row == 1 => copy::<12>(x, step, packed),
        (_, 8) if row == 1 => copy::<8>(x, step, packed),
        (_, 3) if row == 1 => copy::<3>(x, step, packed),
        (_, 4) if row == 1 => copy::<4>(x, step, packed),
        (_, _) => {
            for (k, packed) in packed.chunks_exact_mut(rows).enumerate() {
                packed.iter_mut().enumerate().for_each(|(i, value)| *value = x[i * row + k * step]);
            }
        }
    }
}

#[inline(always)]
fn transpose<const R: usize>(x: &[f32], row: usize, depth: usize, packed: &mut [f32]) {
    /// Side of the square that is transposed in registers.
    const SIDE: usize = 4;
    let (packed, _) = packed.as_chunks_mut::<R>();
    let (whole, rest) = packed[..depth].split_at_mut(depth / SIDE * SIDE);
    // A few rows at a time, from end to end: a processor's prefetcher does not follow more streams.
    for first in (0..R / SIDE * SIDE).step_by(SIDE) {
        for (block, packed) in whole.chunks_exact_mut(SIDE).enumerate() {
            let mut square = [[0f32; SIDE]; SIDE];
            for (i, line) in square.iter_mut().enumerate() {
                line.copy_from_slice(&x[(first + i) * row + block * SIDE..][..SIDE]);
            }
            for (k, packed) in packed.iter_mut().enumerate() {
                for (value, line) in packed[first..first + SIDE].iter_mut().zip(&square) {
                    *value = line[k];
                }
            }
        }
    }
    for i in R / SIDE * SIDE..R {
        for (packed, value) in whole.iter_mut().zip(&x[i * row..]) {
            packed[i] = *value;
        }
    }
    let done = whole.len();
    for (k, packed) in rest.iter_mut().enumerate() {
        for (i, value) in packed.iter_mut().enumerate() {
            *value = x[i * row + done + k];
        }
    }
}

#[inline(always)]
fn copy<const R: usize>(x: &[f32], step: usize, packed: &mut [f32]) {
    let (packed, _) = packed.as_chunks_mut::<R>();
    for (packed, row) in packed.iter_mut().zip(strided::<R>(x, step)) {
        *packed = *row;
    }
}

/// Loads up to a panel of outputs of a row, padded with zeros.
#[inline(always)]
fn load<S: Simd, const V: usize>(simd: S, row: &[f32]) -> [S::f32s; V] {
    let mut vectors = [simd.splat_f32s(0.0); V];
    match row.first_chunk::<PANEL>() {
        Some(row) => vectors.copy_from_slice(&S::as_simd_f32s(row).0[..V]),
        None => {
            let mut padded = [0f32; PANEL];
            padded[..row.len()].copy_from_slice(row);
            vectors.copy_from_slice(&S::as_simd_f32s(&padded).0[..V]);
        }
    }
    vectors
}

/// Repeats a statement for each row of a tile, unrolled: in a loop, or in a closure that is not
/// inlined, the compiler keeps the tile's sums in memory and stores them at every step.
macro_rules! each_row {
    ($rows:expr, $i:ident, $body:block) => {
        each_row!($rows, $i, $body, 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    ($rows:expr, $i:ident, $body:block, $($row:literal)*) => {
        {
            $(if $row < $rows {
                let $i: usize = $row;
                $body
            })*
        }
    };
}

/// Computes a tile of `R` rows and `V` vectors of outputs.
#[inline(always)]
fn tile<'a, S: Simd, const R: usize, const V: usize>(
    simd: S,
    steps: impl Iterator<Item = &'a [f32; R]>,
    panel: &[f32],
    sums: TileOutput<'_>,
) {
    const { assert!(R <= MAX_TILE_ROWS, "each_row! unrolls MAX_TILE_ROWS rows") };
    let TileOutput { start, out, stride, column } = sums;
    let width = PANEL.min(stride - column);
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    match start {
        InitialSum::Zero => {}
        InitialSum::Bias(bias) => {
            let row = load::<S, V>(simd, &bias[column..][..width]);
            each_row!(R, i, { sums[i] = row });
        }
        InitialSum::Output => each_row!(R, i, { sums[i] = load(simd, &out[i * stride + column..][..width]) }),
    }
    let (vectors, _) = S::as_simd_f32s(panel);
    let (vectors, _) = vectors.as_chunks::<V>();
    for (a, w) in steps.zip(vectors) {
        // The shorter side stays in registers while the longer one streams past: AVX2 has no
        // register to spare.
        if R < V {
            let mut spread = [simd.splat_f32s(0.0); R];
            each_row!(R, i, { spread[i] = simd.splat_f32s(a[i]) });
            for (v, w) in w.iter().enumerate() {
                each_row!(R, i, { sums[i][v] = simd.mul_add_f32s(spread[i], *w, sums[i][v]) });
            }
        } else {
            each_row!(R, i, {
                let a = simd.splat_f32s(a[i]);
                for (w, sum) in w.iter().zip(&mut sums[i]) {
                    *sum = simd.mul_add_f32s(a, *w, *sum);
                }
            });
        }
    }
    each_row!(R, i, {
        let row = &mut out[i * stride + column..][..width];
        if width == PANEL {
            S::as_mut_simd_f32s(row).0[..V].copy_from_slice(&sums[i]);
        } else {
            let mut padded = [0f32; PANEL];
            S::as_mut_simd_f32s(&mut padded).0[..V].copy_from_slice(&sums[i]);
            row.copy_from_slice(&padded[..width]);
        }
    });
}
