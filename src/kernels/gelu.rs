//! The GELU activation x Φ(x), Φ being the distribution function of the standard normal (Hendrycks
//! & Gimpel 2016, arXiv 1606.08415), and its gradient.

use pulp::Simd;

use super::exponential::exp;
use super::rowwise::{Elementwise, map_pairs};

/// Argument from which on the error function rounds to 1.
const LARGEST: f32 = 4.0;
/// Coefficients of the numerator of erf(x) / x, and of its denominator, in powers of x², highest
/// first: the rational approximation that Eigen and XLA use.
const NUMERATOR: [f32; 7] =
    [-2.726_142_3e-10, 2.770_681_4e-8, -2.101_024_1e-6, -5.692_506_4e-5, -7.349_906_5e-4, -2.954_6e-3, -1.609_603_3e-2];
const DENOMINATOR: [f32; 5] = [-1.456_607_2e-5, -2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];

/// Computes `out = x Φ(x)` elementwise.
pub fn gelu(x: &[f32], out: &mut [f32]) {
    map_pairs(Gelu, x, x, out, 8);
}

/// Computes the gradient of [`gelu`] from that of its output: dx = g (Φ(x) + x φ(x)), φ being the
/// density of the standard normal.
pub fn gelu_backward(x: &[f32], gradient: &[f32], dx: &mut [f32]) {
    map_pairs(GeluGradient, x, gradient, dx, 8);
}

#[derive(Clone, Copy)]
struct Gelu;

impl Elementwise for Gelu {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::f32s, _: S::f32s) -> S::f32s {
        simd.mul_f32s(x, normal_distribution(simd, x))
    }
}

#[derive(Clone, Copy)]
struct GeluGradient;

impl Elementwise for GeluGradient {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::f32s, gradient: S::f32s) -> S::f32s {
        let density = exp(simd, simd.mul_f32s(simd.mul_f32s(x, x), simd.splat_f32s(-0.5)));
        let density = simd.mul_f32s(density, simd.splat_f32s(0.398_942_3)); // 1 / sqrt(2 pi)
        simd.mul_f32s(gradient, simd.mul_add_f32s(x, density, normal_distribution(simd, x)))
    }
}

/// Returns Φ(x) = (1 + erf(x / sqrt 2)) / 2.
#[inline(always)]
fn normal_distribution<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // The limit is the first operand: x86 returns the second if one is NaN.
    let x = simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2));
    let x = simd.min_f32s(simd.splat_f32s(LARGEST), simd.max_f32s(simd.splat_f32s(-LARGEST), x));
    let square = simd.mul_f32s(x, x);
    let numerator = simd.mul_f32s(x, polynomial(simd, &NUMERATOR, square));
    let erf = simd.div_f32s(numerator, polynomial(simd, &DENOMINATOR, square));
    simd.mul_add_f32s(erf, simd.splat_f32s(0.5), simd.splat_f32s(0.5))
}

#[inline(always)]
fn polynomial<S: Simd>(simd: S, coefficients: &[f32], x: S::f32s) -> S::f32s {
    let mut sum = simd.splat_f32s(0.0);
    for c in coefficients {
        sum = simd.mul_add_f32s(sum, x, simd.splat_f32s(*c));
    }
    sum
}
