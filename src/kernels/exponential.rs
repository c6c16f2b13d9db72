//! The vectorized exponential function, within 2 units in the last place.

use pulp::Simd;

/// Smallest argument whose result is a normal number; below it the result is zero.
const LOWEST: f32 = -87.33;
/// Largest argument whose result does not overflow.
const HIGHEST: f32 = 88.37;
/// 1.5 * 2^23: adding it rounds a float to an integer that is then in its low bits.
const ROUND: f32 = 12_582_912.0;

/// Returns `exp(x)` elementwise: zero below [`LOWEST`] (also for minus infinity), `exp(HIGHEST)`
/// above [`HIGHEST`], NaN for NaN.
///
/// With n = round(x / ln 2) and r = x - n ln 2 (ln 2 in two parts): exp(x) = 2^n exp(r), and exp(r)
/// is the polynomial of degree 6 of Cephes' `expf`.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |v: f32| simd.splat_f32s(v);
    let vanishes = simd.less_than_f32s(x, splat(LOWEST));
    // The limit is the first operand: x86 returns the second if one is NaN.
    let x = simd.min_f32s(splat(HIGHEST), simd.max_f32s(splat(LOWEST), x));
    let rounded = simd.mul_add_f32s(x, splat(std::f32::consts::LOG2_E), splat(ROUND));
    let n = simd.sub_f32s(rounded, splat(ROUND));
    let r = simd.mul_add_f32s(n, splat(-0.693_359_4), x);
    let r = simd.mul_add_f32s(n, splat(2.121_944_4e-4), r);
    let mut p = splat(1.987_569_2e-4);
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 5e-1] {
        p = simd.mul_add_f32s(p, r, splat(c));
    }
    let p = simd.add_f32s(simd.mul_add_f32s(p, simd.mul_f32s(r, r), r), splat(1.0));
    // The low bits of the integer, shifted into the exponent.
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    let result = simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(p), bits));
    simd.select_f32s(vanishes, splat(0.0), result)
}

/// Returns `silu(x) = x / (1 + exp(-x))` elementwise.
#[inline(always)]
pub(super) fn silu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let denominator = simd.add_f32s(simd.splat_f32s(1.0), exp(simd, simd.neg_f32s(x)));
    simd.div_f32s(x, denominator)
}
