//! Our kernels for a card beside candle's operations on the same card, in shapes that models have and in odd ones.

use candle_core::{DType, Device, Result, Tensor};

use super::random_weights::uniform;
use super::{Check, CheckupError};
use crate::kernels::attention::{BLOCK, Heads};
use crate::vlm::cache::{LayerCache, Step, StepSegment};
use crate::vlm::ops::{Composed, Linear, rotate, swiglu};

/// Of each operation its largest difference from what candle computes in f32 of the same numbers, as a share of the largest number.
pub(super) fn check(device: &Device) -> std::result::Result<Vec<Check>, CheckupError> {
    let kernels = [
        ("our rotary kernel, beside candle's operations in f32", rotary as fn(&Device, DType) -> Result<f64>),
        ("our linear map with a bias, beside candle's operations in f32", linear),
        ("our SwiGLU kernel, beside candle's operations in f32", gated),
        ("our attention kernels with the cache, beside candle's operations in f32", attention),
    ];
    let mut checks = Vec::new();
    for (what, apart) in kernels {
        checks.push(Check::new(what, apart(device, DType::F32)?, 1e-5, "of the largest, in f32"));
        // Half a unit in the last place of bf16, twice where a number is rounded on its way.
        let short = apart(device, DType::BF16)?.max(apart(device, DType::F16)?);
        checks.push(Check::new(what, short, 2f64.powi(-8), "of the largest, in bf16 and f16"));
    }
    Ok(checks)
}

/// Rows of a wider matrix, as a stacked projection gives them.
fn rows(count: usize, width: usize, gap: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    uniform((count, gap + width + gap), 1.0, dtype, device)?.narrow(1, gap, width)
}

/// The largest difference of `found` from `expected`, as a share of the largest number; infinite where a number is none.
fn apart(found: &Tensor, expected: &Tensor) -> Result<f64> {
    let numbers = |x: &Tensor| x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let (found, expected) = (numbers(found)?, numbers(expected)?);
    let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let apart = found.iter().zip(&expected).map(|(a, b)| f64::from((a - b).abs()));
    let apart = apart.fold(0.0, |apart, d| if d.is_nan() { f64::INFINITY } else { d.max(apart) });
    Ok(if found.len() == expected.len() { apart / f64::from(largest.max(f32::MIN_POSITIVE)) } else { f64::INFINITY })
}

fn wide(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)
}

fn rotary(device: &Device, dtype: DType) -> Result<f64> {
    let mut largest = 0f64;
    for (tokens, heads, half, gap) in [(1, 1, 1, 0), (3, 5, 4, 8), (257, 2, 40, 0), (129, 16, 64, 24), (1000, 3, 16, 2)]
    {
        let x = rows(tokens, heads * 2 * half, gap, dtype, device)?;
        let angles = uniform((tokens, half), 0.5, DType::F32, device)?;
        for angles_type in [dtype, DType::F32] {
            let (cos, sin) = (angles.cos()?.to_dtype(angles_type)?, angles.sin()?.to_dtype(angles_type)?);
            let found = rotate(&x, &cos, &sin)?;
            let _composed = Composed::begin();
            largest = largest.max(apart(&found, &rotate(&wide(&x)?, &wide(&cos)?, &wide(&sin)?)?)?);
        }
    }
    Ok(largest)
}

fn linear(device: &Device, dtype: DType) -> Result<f64> {
    let mut largest = 0f64;
    for (tokens, inputs, outputs) in [(1, 8, 1), (3, 16, 257), (129, 40, 96)] {
        let (x, weight) = (rows(tokens, inputs, 0, dtype, device)?, rows(outputs, inputs, 0, dtype, device)?);
        let bias = uniform(outputs, 1.0, dtype, device)?;
        let map = |x: &Tensor, w: &Tensor, b: &Tensor| Linear::new(w.clone(), Some(b.clone())).forward(x);
        let found = map(&x, &weight, &bias)?;
        let _composed = Composed::begin();
        largest = largest.max(apart(&found, &map(&wide(&x)?, &wide(&weight)?, &wide(&bias)?)?)?);
    }
    Ok(largest)
}

fn gated(device: &Device, dtype: DType) -> Result<f64> {
    let mut largest = 0f64;
    for (tokens, width, gap) in [(1, 1, 0), (3, 257, 5), (1000, 33, 0), (128, 1376, 8)] {
        // Large numbers of both signs too: the exponential must not overflow into something that is no number.
        let gate = (rows(tokens, width, gap, dtype, device)? * 30.0)?;
        let up = rows(tokens, width, gap, dtype, device)?;
        let found = swiglu(&gate, &up)?;
        let _composed = Composed::begin();
        largest = largest.max(apart(&found, &swiglu(&wide(&gate)?, &wide(&up)?)?)?);
    }
    Ok(largest)
}

/// Prompts are stored and attended to, then each goes on by a token, twice; blocks lie anywhere.
fn attention(device: &Device, dtype: DType) -> Result<f64> {
    const LENGTHS: [usize; 9] = [1, 31, 32, 33, 127, 128, 129, 300, 5];
    let mut largest = 0f64;
    for (group, key_heads, dim) in
        [(8, 2, 128), (7, 4, 128), (4, 8, 128), (2, 2, 32), (1, 3, 8), (3, 1, 24), (5, 2, 80), (6, 1, 64), (9, 1, 16)]
    {
        let heads = Heads { query: group * key_heads, key_value: key_heads, dim };
        let needed = |length: usize| (length + 2).div_ceil(BLOCK);
        let blocks: usize = LENGTHS.iter().map(|length| needed(*length)).sum();
        // Every block once, in no order: the stride shares no factor with their number.
        let shared = |a: usize, b: usize| (2..=a).any(|d| a.is_multiple_of(d) && b.is_multiple_of(d));
        let stride = (7..).find(|stride| !shared(*stride, blocks)).unwrap_or(1);
        let mut free = (0..blocks).map(|i| (i * stride % blocks) as u32);
        let own: Vec<Vec<u32>> = LENGTHS.iter().map(|l| free.by_ref().take(needed(*l)).collect()).collect();
        let mut ours = LayerCache::new(heads, blocks, dtype, device)?;
        let mut candles = LayerCache::new(heads, blocks, DType::F32, device)?;
        for turn in 0..3 {
            let mut step = Step::default();
            for (length, blocks) in LENGTHS.iter().zip(&own) {
                let (tokens, context) = if turn == 0 { (*length, 0) } else { (1, length + turn - 1) };
                step.segments.push(StepSegment { tokens, context, blocks: blocks.clone() });
            }
            let q = rows(step.tokens(), heads.query * dim, turn, dtype, device)?;
            let k = rows(step.tokens(), key_heads * dim, 0, dtype, device)?;
            let v = rows(step.tokens(), key_heads * dim, 16, dtype, device)?;
            let found = ours.attend(&q, &k, &v, &step)?;
            let _composed = Composed::begin();
            let expected = candles.attend(&wide(&q)?, &wide(&k)?, &wide(&v)?, &step.clone())?;
            // A prompt's attention is candle's in both, and in short formats rounds where it will.
            if turn > 0 || dtype == DType::F32 {
                largest = largest.max(apart(&found, &expected)?);
            }
        }
    }
    Ok(largest)
}
