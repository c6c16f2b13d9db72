//! The backward passes of the row-wise kernels.
//!
//! Sums over rows are formed in runs of a fixed number of rows and then added in order, so a
//! gradient has the same bits for any number of threads.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::exponential::exp;
use super::rowwise::rows_per_thread;

/// Rows whose contributions to a weight's gradient are added up before they are added to the total.
const RUN: usize = 64;

/// Computes the gradients of [`rms_norm`](super::rowwise::rms_norm) from that of its output.
///
/// With s = 1 / sqrt(mean(x²) + eps) per row: dx = s (w g) - x s³ mean(w g x), and dw is the sum of
/// g x s over the rows.
pub fn rms_norm_backward(x: &[f32], weight: &[f32], eps: f32, gradient: &[f32], dx: &mut [f32], dw: &mut [f32]) {
    let width = weight.len();
    dw.fill(0.0);
    if width == 0 || x.is_empty() {
        return;
    }
    let rows = x.len() / width;
    let runs = rows.div_ceil(RUN);
    let mut sums = vec![0f32; runs * width];
    let share = rows_per_thread(rows, 2 * x.len()).div_ceil(RUN);
    let work = |x: &[f32], gradient: &[f32], dx: &mut [f32], dw: &mut [f32]| {
        Arch::new().dispatch(RmsNormBackward { x, weight, eps, gradient, dx, dw });
    };
    if share >= runs {
        work(x, gradient, dx, &mut sums);
    } else {
        let part = share * RUN * width;
        let inputs = x.par_chunks(part).zip(gradient.par_chunks(part));
        let outputs = dx.par_chunks_mut(part).zip(sums.par_chunks_mut(share * width));
        inputs.zip(outputs).for_each(|((x, gradient), (dx, dw))| work(x, gradient, dx, dw));
    }
    for sums in sums.chunks_exact(width) {
        dw.iter_mut().zip(sums).for_each(|(dw, sum)| *dw += sum);
    }
}

struct RmsNormBackward<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    gradient: &'a [f32],
    dx: &'a mut [f32],
    /// Sums per run, `[runs, width]`, initially zero.
    dw: &'a mut [f32],
}

impl WithSimd for RmsNormBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.weight.len();
        let run = RUN * width;
        let runs = self.x.chunks(run).zip(self.gradient.chunks(run));
        for ((x, gradient), (dx, dw)) in runs.zip(self.dx.chunks_mut(run).zip(self.dw.chunks_exact_mut(width))) {
            let rows = x.chunks_exact(width).zip(gradient.chunks_exact(width));
            for ((x, gradient), dx) in rows.zip(dx.chunks_exact_mut(width)) {
                let (squares, products) = row_sums(simd, x, gradient, self.weight);
                let scale = 1.0 / (squares / width as f32 + self.eps).sqrt();
                let pull = products / width as f32 * scale * scale;
                for ((dx, dw), ((x, g), w)) in dx.iter_mut().zip(&mut *dw).zip(x.iter().zip(gradient).zip(self.weight))
                {
                    *dx = scale * (w * g - x * pull);
                    *dw += g * (x * scale);
                }
            }
        }
    }
}

/// Returns the sums of x² and of w g x; each is formed in the lanes of two registers.
#[inline(always)]
fn row_sums<S: Simd>(simd: S, x: &[f32], g: &[f32], w: &[f32]) -> (f32, f32) {
    let ((x, x_tail), (g, g_tail), (w, w_tail)) = (S::as_simd_f32s(x), S::as_simd_f32s(g), S::as_simd_f32s(w));
    let mut squares = [simd.splat_f32s(0.0); 2];
    let mut products = squares;
    let (pairs, last) = x.as_chunks::<2>();
    let (gradients, last_gradient) = g.as_chunks::<2>();
    let (weights, last_weight) = w.as_chunks::<2>();
    for ((x, g), w) in pairs.iter().zip(gradients).zip(weights) {
        squares[0] = simd.mul_add_f32s(x[0], x[0], squares[0]);
        squares[1] = simd.mul_add_f32s(x[1], x[1], squares[1]);
        products[0] = simd.mul_add_f32s(simd.mul_f32s(w[0], g[0]), x[0], products[0]);
        products[1] = simd.mul_add_f32s(simd.mul_f32s(w[1], g[1]), x[1], products[1]);
    }
    for ((x, g), w) in last.iter().zip(last_gradient).zip(last_weight) {
        squares[0] = simd.mul_add_f32s(*x, *x, squares[0]);
        products[0] = simd.mul_add_f32s(simd.mul_f32s(*w, *g), *x, products[0]);
    }
    if !x_tail.is_empty() {
        let x = simd.partial_load_f32s(x_tail);
        let scaled = simd.mul_f32s(simd.partial_load_f32s(w_tail), simd.partial_load_f32s(g_tail));
        squares[0] = simd.mul_add_f32s(x, x, squares[0]);
        products[0] = simd.mul_add_f32s(scaled, x, products[0]);
    }
    let squares = simd.reduce_sum_f32s(simd.add_f32s(squares[0], squares[1]));
    (squares, simd.reduce_sum_f32s(simd.add_f32s(products[0], products[1])))
}

/// Replaces gate and up by their gradients, given that of the output of
/// [`swiglu`](super::rowwise::swiglu).
///
/// With σ the logistic function: d gate = g up σ(gate) (1 + gate (1 - σ(gate))), d up = g gate
/// σ(gate).
pub fn swiglu_backward(gate: &mut [f32], up: &mut [f32], gradient: &[f32]) {
    let share = rows_per_thread(gate.len(), 8 * gate.len()).next_multiple_of(64);
    if gate.len() <= share {
        return Arch::new().dispatch(SwiGluBackward { gate, up, gradient });
    }
    let shares = gate.par_chunks_mut(share).zip(up.par_chunks_mut(share)).zip(gradient.par_chunks(share));
    shares.for_each(|((gate, up), gradient)| Arch::new().dispatch(SwiGluBackward { gate, up, gradient }));
}

struct SwiGluBackward<'a> {
    gate: &'a mut [f32],
    up: &'a mut [f32],
    gradient: &'a [f32],
}

impl WithSimd for SwiGluBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (gate, gate_tail) = S::as_mut_simd_f32s(self.gate);
        let (up, up_tail) = S::as_mut_simd_f32s(self.up);
        let (gradient, gradient_tail) = S::as_simd_f32s(self.gradient);
        for ((gate, up), gradient) in gate.iter_mut().zip(up).zip(gradient) {
            (*gate, *up) = swiglu_gradients(simd, *gate, *up, *gradient);
        }
        if !gate_tail.is_empty() {
            let (gate, up) = (simd.partial_load_f32s(gate_tail), simd.partial_load_f32s(up_tail));
            let (dgate, dup) = swiglu_gradients(simd, gate, up, simd.partial_load_f32s(gradient_tail));
            simd.partial_store_f32s(gate_tail, dgate);
            simd.partial_store_f32s(up_tail, dup);
        }
    }
}

/// Returns the gradients of gate and up.
#[inline(always)]
fn swiglu_gradients<S: Simd>(simd: S, gate: S::f32s, up: S::f32s, gradient: S::f32s) -> (S::f32s, S::f32s) {
    let one = simd.splat_f32s(1.0);
    let logistic = simd.div_f32s(one, simd.add_f32s(one, exp(simd, simd.neg_f32s(gate))));
    let silu = simd.mul_f32s(gate, logistic);
    let slope = simd.mul_f32s(logistic, simd.add_f32s(one, simd.sub_f32s(gate, silu)));
    (simd.mul_f32s(simd.mul_f32s(gradient, up), slope), simd.mul_f32s(gradient, silu))
}
