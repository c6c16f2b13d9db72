//! Comparison of our GPU kernels with candle's operations on the same GPU, in usual and odd shapes.

use candle_core::{DType, Device, Tensor};
use dashu_int::ops::Gcd;

use super::parity::{self, to_f32_vec};
use super::random_weights::uniform_for;
use super::{Check, Result};
use crate::device::cuda::kernels::{self, BlockTables, launches};
use crate::kernels::attention::{BLOCK, Heads};
use crate::vlm::ops::{LayerCache, Linear, Ops, Step, StepSegment};

/// Measures the largest difference from candle's result for each operation, relative to the largest
/// element. If our kernel was not used, the difference is infinite.
pub(super) fn check(device: &Device) -> Result<Vec<Check>> {
    // Half a unit in the last place of bf16, or twice that if an intermediate result is rounded.
    let (once, twice) = (2f64.powi(-8), 2f64.powi(-7));
    type Measure = fn(&Device, DType) -> Result<f64>;
    let kernels: [(&'static str, Measure, f64); 5] = [
        ("our rotary kernel, compared with candle in f32", measure_rotary, once),
        ("our linear map with a bias, compared with candle", measure_linear, 0.0),
        ("our SwiGLU kernel, compared with candle in f32", measure_swiglu, twice),
        ("our attention kernels with the cache, compared with candle in f32", measure_attention, twice),
        ("our attention in chunks, compared with one call", measure_chunks, 0.0),
    ];
    let mut checks = Vec::new();
    for (name, measure, short) in kernels {
        let wide = if short == 0.0 { 0.0 } else { 1e-5 };
        checks.push(Check::new(name, measure(device, DType::F32)?, wide, "of the largest, in f32"));
        let found = measure(device, DType::BF16)?.max(measure(device, DType::F16)?);
        checks.push(Check::new(name, found, short, "of the largest, in bf16 and f16"));
    }
    Ok(checks)
}

/// Runs a function that should launch this number of our kernels. The second value is 0 if it did,
/// and infinite otherwise.
fn expect_launches<T>(expected: u64, f: impl FnOnce() -> candle_core::Result<T>) -> Result<(T, f64)> {
    let before = launches();
    let found = f()?;
    Ok((found, if launches() - before == expected { 0.0 } else { f64::INFINITY }))
}

/// Returns random rows with gaps between them, like a slice of a stacked projection.
fn random_rows(
    label: &str,
    [count, width, gap]: [usize; 3],
    dtype: DType,
    device: &Device,
) -> candle_core::Result<Tensor> {
    uniform_for(label, (count, gap + width + gap), 1.0, dtype, device)?.narrow(1, gap, width)
}

/// Lower bound for the largest element: f16 has no precision for smaller values.
const MIN_SCALE: f32 = 1e-4;

/// Returns the largest difference relative to the largest expected element; infinite for NaN.
fn relative_difference(found: &Tensor, expected: &Tensor) -> Result<f64> {
    let (found, expected) = (to_f32_vec(found)?, to_f32_vec(expected)?);
    let largest = expected.iter().fold(MIN_SCALE, |largest, x| largest.max(x.abs()));
    Ok(parity::max_difference(&found, &expected) / f64::from(largest))
}

fn to_f32(x: &Tensor) -> candle_core::Result<Tensor> {
    x.to_dtype(DType::F32)
}

fn measure_rotary(device: &Device, dtype: DType) -> Result<f64> {
    let mut largest = 0f64;
    for (tokens, heads, half, gap) in [(1, 1, 1, 0), (3, 5, 4, 8), (257, 2, 40, 0), (129, 16, 64, 24), (1000, 3, 16, 2)]
    {
        let x = random_rows("x", [tokens, heads * 2 * half, gap], dtype, device)?;
        let angles = uniform_for("angles", (tokens, half), 0.5, DType::F32, device)?;
        for angles_type in [dtype, DType::F32] {
            let (cos, sin) = (angles.cos()?.to_dtype(angles_type)?, angles.sin()?.to_dtype(angles_type)?);
            let (found, unused) = expect_launches(1, || Ops::Kernels.rotate(&x, &cos, &sin))?;
            largest = largest.max(unused).max(relative_difference(
                &found,
                &Ops::Reference.rotate(&to_f32(&x)?, &to_f32(&cos)?, &to_f32(&sin)?)?,
            )?);
        }
    }
    Ok(largest)
}

fn measure_linear(device: &Device, dtype: DType) -> Result<f64> {
    let mut largest = 0f64;
    for (tokens, inputs, outputs) in [(1, 8, 1), (3, 16, 257), (129, 40, 96)] {
        let x = random_rows("x", [tokens, inputs, 0], dtype, device)?;
        let weight = random_rows("weight", [outputs, inputs, 0], dtype, device)?;
        let bias = uniform_for("bias", outputs, 1.0, dtype, device)?;
        let map = |ops| Linear::new(ops, weight.clone(), Some(bias.clone())).forward(&x);
        let (found, unused) = expect_launches(1, || map(Ops::Kernels))?;
        // In the same dtype: the product, candle's in both, is rounded before the bias is added.
        largest = largest.max(unused).max(relative_difference(&found, &map(Ops::Reference)?)?);
    }
    Ok(largest)
}

fn measure_swiglu(device: &Device, dtype: DType) -> Result<f64> {
    let mut largest = 0f64;
    for (tokens, width, gap) in [(1, 1, 0), (3, 257, 5), (1000, 33, 0), (128, 1376, 8)] {
        // Large values of both signs, so that an overflow of the exponential would show as NaN.
        let gate = uniform_for("gate", (tokens, gap + width), 30.0, dtype, device)?.narrow(1, gap, width)?;
        let up = random_rows("up", [tokens, width, gap + 3], dtype, device)?;
        let (found, unused) = expect_launches(1, || Ops::Kernels.swiglu(&gate, &up))?;
        largest = largest
            .max(unused)
            .max(relative_difference(&found, &Ops::Reference.swiglu(&to_f32(&gate)?, &to_f32(&up)?)?)?);
    }
    Ok(largest)
}

/// Prefills prompts, then decodes two tokens each, with cache blocks in arbitrary order.
fn measure_attention(device: &Device, dtype: DType) -> Result<f64> {
    const LENGTHS: [usize; 9] = [1, 31, 32, 33, 127, 128, 129, 300, 5];
    let mut largest = 0f64;
    for (group, key_heads, dim) in
        [(8, 2, 128), (7, 4, 128), (4, 8, 128), (2, 2, 32), (1, 3, 8), (3, 1, 24), (5, 2, 80), (6, 1, 64), (9, 1, 16)]
    {
        let heads = Heads { query: group * key_heads, key_value: key_heads, dim };
        let needed = |length: usize| (length + 2).div_ceil(BLOCK);
        let blocks: usize = LENGTHS.iter().map(|length| needed(*length)).sum();
        // Each block once, in a scattered order: the stride is coprime to the number of blocks.
        let stride = (7usize..).find(|stride| (*stride).gcd(blocks) == 1).unwrap_or(1);
        let mut free = (0..blocks).map(|i| (i * stride % blocks) as u32);
        let blocks_of_sequences: Vec<Vec<u32>> =
            LENGTHS.iter().map(|l| free.by_ref().take(needed(*l)).collect()).collect();
        let mut ours = LayerCache::new(Ops::Kernels, heads, blocks, dtype, device)?;
        let mut candles = LayerCache::new(Ops::Reference, heads, blocks, DType::F32, device)?;
        for turn in 0..3 {
            let mut step = Step::default();
            for (length, blocks) in LENGTHS.iter().zip(&blocks_of_sequences) {
                let (tokens, context) = if turn == 0 { (*length, 0) } else { (1, length + turn - 1) };
                step.segments.push(StepSegment { tokens, context, blocks: blocks.clone() });
            }
            let random_rows_of = |label: &str, width: usize, gap: usize| {
                random_rows(&format!("{label}, turn {turn}"), [step.tokens(), width, gap], dtype, device)
            };
            let q = random_rows_of("q", heads.query * dim, turn)?;
            let (k, v) = (random_rows_of("k", key_heads * dim, 0)?, random_rows_of("v", key_heads * dim, 16)?);
            // One kernel stores keys and values; two more compute the attention of decoding steps,
            // if they support the heads.
            let expected = if turn > 0 && kernels::can_attend(heads) { 3 } else { 1 };
            let (found, unused) = expect_launches(expected, || ours.attend(&q, &k, &v, &step))?;
            largest = largest.max(unused);
            let expected = candles.attend(&to_f32(&q)?, &to_f32(&k)?, &to_f32(&v)?, &step.clone())?;
            // Attention over a prompt is candle's in both, with its own rounding in 16-bit dtypes.
            if turn > 0 || dtype == DType::F32 {
                largest = largest.max(relative_difference(&found, &expected)?);
            }
        }
    }
    Ok(largest)
}

/// Attends to few sequences at a time, as for a large cache; the bits must be the same.
fn measure_chunks(device: &Device, dtype: DType) -> Result<f64> {
    const HEADS: Heads = Heads { query: 6, key_value: 3, dim: 32 };
    let lengths = [300u32, 1, 129, 64, 128];
    let blocks_per_sequence = 300usize.div_ceil(BLOCK);
    let count = lengths.len();
    let blocks: Vec<u32> = (0..(count * blocks_per_sequence) as u32).rev().collect();
    let block_tables = BlockTables {
        blocks: Tensor::from_vec(blocks, (count, blocks_per_sequence), device)?,
        lengths: Tensor::new(&lengths, device)?,
        longest: 300,
    };
    let cache = |label: &str| {
        random_rows(label, [count * blocks_per_sequence * BLOCK, HEADS.key_value * HEADS.dim, 0], dtype, device)
    };
    let (keys, values) = (cache("keys")?, cache("values")?);
    let q = random_rows("q", [count, HEADS.query * HEADS.dim, 0], dtype, device)?;
    let attend = |limit| kernels::attend(&q, [&keys, &values], HEADS, 0.25, &block_tables, limit);
    let in_one_call = attend(kernels::MAX_PARTIAL_ELEMENTS)?;
    // One sequence at a time, and two.
    let elements_per_sequence = HEADS.query * 300usize.div_ceil(128) * (HEADS.dim + 2);
    Ok(relative_difference(&attend(1)?, &in_one_call)?
        .max(relative_difference(&attend(2 * elements_per_sequence)?, &in_one_call)?))
}
