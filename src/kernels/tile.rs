//! The register tile of the matrix products: a few rows by one panel, accumulated in vector registers.

use pulp::Simd;

use super::packed::PANEL;

/// Rows of the highest tile: 12 x 2 of the 32 AVX-512 registers accumulate.
pub(super) const TILE: usize = 12;

/// The height of the next tile when `left` rows are left.
#[inline(always)]
pub(super) fn tile_rows<S: Simd>(left: usize) -> usize {
    match (S::F32_LANES, left) {
        (16, TILE..) => TILE,
        (16, 8..) => 8,
        (16, 4..) => 4,
        (8 | 16, 2..) => 2,
        _ => 1,
    }
}

/// `out[i, column + n] += sum_k a[k, i] panel[k, n]` for a tile of [`tile_rows`] rows; rows of `out` are `stride` long.
///
/// Each sum is one chain of multiply-adds in ascending `k`, whatever the tile.
#[inline(always)]
pub(super) fn multiply_tile<S: Simd>(
    simd: S,
    rows: usize,
    a: &[f32],
    panel: &[f32],
    out: &mut [f32],
    stride: usize,
    column: usize,
) {
    match (S::F32_LANES, rows) {
        (16, 12) => tile::<S, 12, 2>(simd, a, panel, out, stride, column),
        (16, 8) => tile::<S, 8, 2>(simd, a, panel, out, stride, column),
        (16, 4) => tile::<S, 4, 2>(simd, a, panel, out, stride, column),
        (16, 2) => tile::<S, 2, 2>(simd, a, panel, out, stride, column),
        (16, _) => tile::<S, 1, 2>(simd, a, panel, out, stride, column),
        (8, 2) => tile::<S, 2, 4>(simd, a, panel, out, stride, column),
        (8, _) => tile::<S, 1, 4>(simd, a, panel, out, stride, column),
        (4, _) => tile::<S, 1, 8>(simd, a, panel, out, stride, column),
        (_, _) => tile::<S, 1, 32>(simd, a, panel, out, stride, column),
    }
}

/// The tile of `R` rows and `V` vectors of outputs.
#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    a: &[f32],
    panel: &[f32],
    out: &mut [f32],
    stride: usize,
    column: usize,
) {
    let width = PANEL.min(stride - column);
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for (i, sums) in sums.iter_mut().enumerate() {
        let row = &out[i * stride + column..][..width];
        if width == PANEL {
            sums.copy_from_slice(&S::as_simd_f32s(row).0[..V]);
        } else {
            let mut padded = [0f32; PANEL];
            padded[..width].copy_from_slice(row);
            sums.copy_from_slice(&S::as_simd_f32s(&padded).0[..V]);
        }
    }
    let (steps, _) = a.as_chunks::<R>();
    let (vectors, _) = S::as_simd_f32s(panel);
    let (vectors, _) = vectors.as_chunks::<V>();
    for (a, w) in steps.iter().zip(vectors) {
        for i in 0..R {
            let a = simd.splat_f32s(a[i]);
            for j in 0..V {
                sums[i][j] = simd.mul_add_f32s(a, w[j], sums[i][j]);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        let row = &mut out[i * stride + column..][..width];
        if width == PANEL {
            S::as_mut_simd_f32s(row).0[..V].copy_from_slice(sums);
        } else {
            let mut padded = [0f32; PANEL];
            S::as_mut_simd_f32s(&mut padded).0[..V].copy_from_slice(sums);
            row.copy_from_slice(&padded[..width]);
        }
    }
}
