//! Row-wise kernels: RMS normalization, SwiGLU, residual addition, rotary embedding, softmax. A
//! row's result never depends on other rows.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::exponential::{exp, silu};

/// Number of elements below which another thread costs more than it saves.
const MIN_ELEMENTS_PER_THREAD: usize = 1 << 16;

/// Returns the rows per thread of the current pool, for `elements` elements in `rows` rows.
pub(super) fn rows_per_thread(rows: usize, elements: usize) -> usize {
    let threads = rayon::current_num_threads().min(elements / MIN_ELEMENTS_PER_THREAD).max(1);
    rows.div_ceil(threads).max(1)
}

/// Computes RMS normalization (Zhang & Sennrich 2019, arXiv 1910.07467) of each row:
/// `out = weight * x / sqrt(mean(x²) + eps)`.
///
/// `x` and `out` are `[rows, width]`, `weight` is `[width]`.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len();
    if width == 0 {
        return;
    }
    let chunk = rows_per_thread(x.len() / width, x.len()) * width;
    let work = |(out, x): (&mut [f32], &[f32])| Arch::new().dispatch(RmsNorm { x, weight, eps, out });
    if x.len() <= chunk {
        work((out, x));
    } else {
        out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(work);
    }
}

/// Computes SwiGLU (Shazeer 2020, arXiv 2002.05202): `out = silu(gate) * up` elementwise.
pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    map_pairs(SwiGlu, gate, up, out, 4);
}

/// Computes `out = x + y` elementwise.
pub fn add(x: &[f32], y: &[f32], out: &mut [f32]) {
    map_pairs(Add, x, y, out, 1);
}

/// Applies the rotary embedding ("rotate half"; Su et al. 2021, arXiv 2104.09864).
///
/// `x` has rows of `heads * 2 * half` elements that are `stride` floats apart, `cos` and `sin` are
/// `[rows, half]`. With (a, b) the halves of a head, the result is (a cos - b sin, b cos + a sin).
pub fn rotate(x: &[f32], stride: usize, heads: usize, cos: &[f32], sin: &[f32], half: usize, out: &mut [f32]) {
    rotate_rows::<false>(x, stride, heads, [cos, sin], half, out);
}

/// Applies the inverse rotation, which is the gradient of [`rotate`].
pub fn rotate_inverse(x: &[f32], stride: usize, heads: usize, cos: &[f32], sin: &[f32], half: usize, out: &mut [f32]) {
    rotate_rows::<true>(x, stride, heads, [cos, sin], half, out);
}

fn rotate_rows<const INVERSE: bool>(
    x: &[f32],
    stride: usize,
    heads: usize,
    angles: [&[f32]; 2],
    half: usize,
    out: &mut [f32],
) {
    let [cos, sin] = angles;
    let width = heads * 2 * half;
    if out.is_empty() {
        return;
    }
    let chunk = rows_per_thread(out.len() / width, out.len());
    let rotate = |first: usize, out: &mut [f32]| {
        Arch::new().dispatch(|| {
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                let row = first + i;
                let (cos, sin) = (&cos[row * half..][..half], &sin[row * half..][..half]);
                let x = &x[row * stride..][..width];
                for (x, out) in x.chunks_exact(2 * half).zip(out.chunks_exact_mut(2 * half)) {
                    rotate_head::<INVERSE>(x, cos, sin, out);
                }
            }
        });
    };
    if chunk * width >= out.len() {
        rotate(0, out);
    } else {
        out.par_chunks_mut(chunk * width).enumerate().for_each(|(i, out)| rotate(i * chunk, out));
    }
}

#[inline(always)]
fn rotate_head<const INVERSE: bool>(x: &[f32], cos: &[f32], sin: &[f32], out: &mut [f32]) {
    let (a, b) = x.split_at(cos.len());
    let (first, second) = out.split_at_mut(cos.len());
    let halves = a.iter().zip(b).zip(first.iter_mut().zip(second));
    for (((a, b), (first, second)), (cos, sin)) in halves.zip(cos.iter().zip(sin)) {
        let sin = if INVERSE { -sin } else { *sin };
        *first = a * cos - b * sin;
        *second = b * cos + a * sin;
    }
}

/// A function of two numbers.
pub(super) trait Elementwise: Copy + Sync {
    fn apply<S: Simd>(self, simd: S, x: S::f32s, y: S::f32s) -> S::f32s;
}

/// Computes `out = function(x, y)` elementwise. An element takes as long as `cost` additions.
pub(super) fn map_pairs(function: impl Elementwise, x: &[f32], y: &[f32], out: &mut [f32], cost: usize) {
    let chunk = rows_per_thread(out.len(), cost * out.len()).next_multiple_of(64);
    if out.len() <= chunk {
        return Arch::new().dispatch(MapPairs { function, x, y, out });
    }
    out.par_chunks_mut(chunk)
        .zip(x.par_chunks(chunk))
        .zip(y.par_chunks(chunk))
        .for_each(|((out, x), y)| Arch::new().dispatch(MapPairs { function, x, y, out }));
}

struct MapPairs<'a, F> {
    function: F,
    x: &'a [f32],
    y: &'a [f32],
    out: &'a mut [f32],
}

impl<F: Elementwise> WithSimd for MapPairs<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, x_tail) = S::as_simd_f32s(self.x);
        let (y, y_tail) = S::as_simd_f32s(self.y);
        let (out, out_tail) = S::as_mut_simd_f32s(self.out);
        for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
            *out = self.function.apply(simd, *x, *y);
        }
        if !out_tail.is_empty() {
            let (x, y) = (simd.partial_load_f32s(x_tail), simd.partial_load_f32s(y_tail));
            simd.partial_store_f32s(out_tail, self.function.apply(simd, x, y));
        }
    }
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl WithSimd for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let (vectors, tail) = S::as_simd_f32s(x);
            let mut sums = [simd.splat_f32s(0.0); 4];
            let (fours, rest) = vectors.as_chunks::<4>();
            for v in fours {
                sums[0] = simd.mul_add_f32s(v[0], v[0], sums[0]);
                sums[1] = simd.mul_add_f32s(v[1], v[1], sums[1]);
                sums[2] = simd.mul_add_f32s(v[2], v[2], sums[2]);
                sums[3] = simd.mul_add_f32s(v[3], v[3], sums[3]);
            }
            for (v, sum) in rest.iter().zip(&mut sums) {
                *sum = simd.mul_add_f32s(*v, *v, *sum);
            }
            let sums = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
            let sum = simd.reduce_sum_f32s(sums) + tail.iter().map(|v| v * v).sum::<f32>();
            let scale = 1.0 / (sum / width as f32 + self.eps).sqrt();
            for ((out, x), w) in out.iter_mut().zip(x).zip(self.weight) {
                *out = *w * (*x * scale);
            }
        }
    }
}

#[derive(Clone, Copy)]
struct SwiGlu;

impl Elementwise for SwiGlu {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, gate: S::f32s, up: S::f32s) -> S::f32s {
        simd.mul_f32s(silu(simd, gate), up)
    }
}

#[derive(Clone, Copy)]
struct Add;

impl Elementwise for Add {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::f32s, y: S::f32s) -> S::f32s {
        simd.add_f32s(x, y)
    }
}

/// Returns the largest of the numbers, in every lane.
#[inline(always)]
pub(super) fn largest<S: Simd>(simd: S, vectors: &[S::f32s]) -> S::f32s {
    // Several accumulators, since a single one would wait for each comparison.
    let mut largest = [simd.splat_f32s(f32::NEG_INFINITY); 4];
    let (chunks, rest) = vectors.as_chunks::<4>();
    for chunk in chunks {
        for (v, largest) in chunk.iter().zip(&mut largest) {
            *largest = simd.max_f32s(*v, *largest);
        }
    }
    for (v, largest) in rest.iter().zip(&mut largest) {
        *largest = simd.max_f32s(*v, *largest);
    }
    let [a, b, c, d] = largest;
    simd.splat_f32s(simd.reduce_max_f32s(simd.max_f32s(simd.max_f32s(a, b), simd.max_f32s(c, d))))
}

/// Replaces the first `limit` scores of a row by `exp(score - max)` and the rest by zeros, and
/// returns their sum.
#[inline(always)]
pub(super) fn unnormalized_softmax<S: Simd>(simd: S, row: &mut [f32], limit: usize) -> f32 {
    row[limit..].fill(f32::NEG_INFINITY);
    let (vectors, tail) = S::as_mut_simd_f32s(row);
    debug_assert!(tail.is_empty(), "rows of scores are whole vectors");
    let largest = largest(simd, vectors);
    let mut sum = simd.splat_f32s(0.0);
    let (whole, rest) = vectors.split_at_mut(limit / S::F32_LANES);
    for v in whole {
        *v = exp(simd, simd.sub_f32s(*v, largest));
        sum = simd.add_f32s(sum, *v);
    }
    if let Some(v) = rest.first_mut() {
        *v = exp(simd, simd.sub_f32s(*v, largest));
    }
    row[limit..].fill(0.0);
    if let Some(v) = S::as_simd_f32s(row).0.get(limit / S::F32_LANES) {
        sum = simd.add_f32s(sum, *v);
    }
    simd.reduce_sum_f32s(sum)
}

/// Computes `out = exp(x * scale - max)` with max the largest of `x * scale`, and returns max and
/// the sum of `out`.
pub fn shifted_exponentials(x: &[f32], scale: f32, out: &mut [f32]) -> (f32, f64) {
    Arch::new().dispatch(Exponentials { x, scale, out })
}

struct Exponentials<'a> {
    x: &'a [f32],
    scale: f32,
    out: &'a mut [f32],
}

impl WithSimd for Exponentials<'_> {
    type Output = (f32, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f32, f64) {
        /// Vectors that are added up in f32 before they are added to the total in f64.
        const RUN: usize = 64;
        let Self { x, scale, out } = self;
        let (vectors, tail) = S::as_simd_f32s(x);
        let (out, out_tail) = S::as_mut_simd_f32s(out);
        let scale_all = simd.splat_f32s(scale);
        let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
        let mut finite = simd.splat_f32s(0.0);
        for (out, v) in out.iter_mut().zip(vectors) {
            *out = simd.mul_f32s(*v, scale_all);
            largest = simd.max_f32s(*out, largest);
            // NaN propagates through a sum but not through a maximum.
            finite = simd.mul_add_f32s(*out, simd.splat_f32s(0.0), finite);
        }
        let mut top = simd.reduce_max_f32s(largest);
        for (out, v) in out_tail.iter_mut().zip(tail) {
            *out = v * scale;
            top = if *out > top || out.is_nan() { *out } else { top };
        }
        // Infinity times zero is NaN too, but minus infinity is a valid logit.
        if simd.reduce_sum_f32s(finite).is_nan() && x.iter().any(|v| v.is_nan() || *v == f32::INFINITY) {
            return (f32::NAN, f64::NAN);
        }
        let shift = simd.splat_f32s(top);
        let mut total = 0f64;
        for run in out.chunks_mut(RUN) {
            let mut sum = simd.splat_f32s(0.0);
            for v in run {
                *v = exp(simd, simd.sub_f32s(*v, shift));
                sum = simd.add_f32s(sum, *v);
            }
            total += f64::from(simd.reduce_sum_f32s(sum));
        }
        for v in out_tail {
            *v = (*v - top).exp();
            total += f64::from(*v);
        }
        (top, total)
    }
}

#[cfg(test)]
mod tests {
    use super::shifted_exponentials;

    #[test]
    fn tokens_of_probability_0_get_0_and_nan_propagates() {
        // In whole vectors and in the tail.
        let mut row: Vec<f32> = (0..67).map(|i| -(i as f32)).collect();
        for far in [f32::NEG_INFINITY, -1e30, -200.0, -104.0] {
            (row[5], row[66]) = (far, far);
            let mut out = vec![1.0; row.len()];
            let (largest, sum) = shifted_exponentials(&row, 1.0, &mut out);
            assert_eq!((largest, out[5], out[66]), (0.0, 0.0, 0.0), "{far}");
            assert!((sum - 1.581_976_7).abs() < 1e-2 && sum.is_finite(), "{sum}");
            assert!(out.iter().enumerate().all(|(i, e)| *e > 0.0 || i == 5 || i == 66));
        }
        row[5] = f32::NAN;
        assert!(shifted_exponentials(&row, 1.0, &mut vec![0.0; 67]).1.is_nan());
    }
}
