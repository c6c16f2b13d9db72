//! Attention by candle's operations.

use candle_core::{D, Result, Tensor};

use super::path::{at_least_f32, has_fused};
use super::segments::{Plan, Segments};
use crate::kernels::attention::Heads;

/// Maximum number of scores in memory at a time. candle's kernels count elements in 32 bits, and a
/// large image has more scores: 16 heads over 21,400 patches have 7 billion.
pub(super) const SCORES: usize = 1 << 28;

/// Returns the factor on the scores.
pub(super) fn scale(heads: Heads) -> f64 {
    1.0 / (heads.dim as f64).sqrt()
}

/// Computes [`Ops::attention`](super::Ops::attention) with at most `limit` scores, or those of one
/// query, in memory at a time.
pub(super) fn reference(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    segments: &Segments,
    limit: usize,
) -> Result<Tensor> {
    let plan = segments.plan.get(|| Plan::new(segments, q.device()))?;
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    let mut parts = Vec::with_capacity(plan.batches.len());
    for batch in &plan.batches {
        let pick = |x: &Tensor, which: usize, heads: usize| -> Result<Tensor> {
            let x = match &batch.tokens {
                Some(tokens) => x.index_select(&tokens[which], 0)?,
                None => x.clone(),
            };
            let (tokens, width) = x.dims2()?;
            x.reshape((batch.count, tokens / batch.count, heads, width / heads))?.transpose(1, 2)?.contiguous()
        };
        let q = pick(&q, 0, heads.query)?; // [count, heads, own, dim]
        let k = repeat_key_heads(pick(&k, 1, heads.key_value)?, heads)?; // [count, heads, prefix + own, dim]
        let v = repeat_key_heads(pick(&v, 1, heads.key_value)?, heads)?;
        let mixed = attend_in_pieces(&q, &k, &v, heads, batch.mask.as_ref(), limit)?;
        parts.push(mixed.transpose(1, 2)?.reshape((batch.count * batch.own, heads.query * heads.dim))?);
    }
    match &plan.order {
        None => Ok(parts.swap_remove(0)),
        Some(order) => Tensor::cat(&parts, 0)?.index_select(order, 0),
    }
}

/// Attends some spans at a time or, if one has too many scores, some of its queries at a time.
fn attend_in_pieces(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    mask: Option<&Tensor>,
    limit: usize,
) -> Result<Tensor> {
    let (count, _, own, _) = q.dims4()?;
    let keys = k.dim(2)?;
    let scores_per_query = (heads.query * keys).max(1);
    if count * own * scores_per_query <= limit {
        return attend(q, k, v, heads, mask);
    }
    let at_once = (limit / (own * scores_per_query)).max(1);
    let rows = (limit / scores_per_query).clamp(1, own);
    let mut parts = Vec::new();
    for first in (0..count).step_by(at_once) {
        let some = |x: &Tensor| x.narrow(0, first, at_once.min(count - first));
        let (q, k, v) = (some(q)?, some(k)?, some(v)?);
        if at_once > 1 || rows == own {
            parts.push(attend(&q, &k, &v, heads, mask)?);
            continue;
        }
        let mut row_parts = Vec::new();
        for row in (0..own).step_by(rows) {
            let len = rows.min(own - row);
            let mask = mask.map(|mask| mask.narrow(0, row, len)).transpose()?;
            row_parts.push(attend(&q.narrow(2, row, len)?.contiguous()?, &k, &v, heads, mask.as_ref())?);
        }
        parts.push(Tensor::cat(&row_parts, 2)?);
    }
    Tensor::cat(&parts, 0)
}

/// Computes `softmax(q kᵀ / sqrt(dim) + mask) v`, `[count, heads, queries, dim]`.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, mask: Option<&Tensor>) -> Result<Tensor> {
    let scores = scaled_scores(q, k, heads)?; // [count, heads, queries, keys]
    let scores = match mask {
        Some(mask) => scores.broadcast_add(&mask.to_dtype(scores.dtype())?)?,
        None => scores,
    };
    softmax(&scores)?.to_dtype(q.dtype())?.matmul(v)
}

/// Repeats key heads `[count, key heads, tokens, dim]` for the query heads that they serve.
fn repeat_key_heads(x: Tensor, heads: Heads) -> Result<Tensor> {
    let (count, key_value, length, dim) = x.dims4()?;
    let group = heads.query / heads.key_value;
    let repeated = x.unsqueeze(2)?.broadcast_as((count, key_value, group, length, dim))?;
    repeated.reshape((count, heads.query, length, dim))
}

/// Computes `q kᵀ / sqrt(dim)` in f32 at least, `[count, heads, queries, keys]`.
///
/// The queries are multiplied by the power of two in the factor, which rounds only f16 numbers next
/// to zero: products that f16 could not hold become small enough. The rest of the factor, between
/// one and two, multiplies the wide scores.
pub(super) fn scaled_scores(q: &Tensor, k: &Tensor, heads: Heads) -> Result<Tensor> {
    let scale = scale(heads);
    let power = scale.log2().floor().exp2();
    widen_scores(&(q * power)?.matmul(&k.t()?)?)? * (scale / power)
}

/// Converts scores to the dtype of the mask and the softmax.
fn widen_scores(scores: &Tensor) -> Result<Tensor> {
    scores.to_dtype(at_least_f32(scores.dtype()))
}

/// Computes the softmax over the last dimension.
pub(super) fn softmax(scores: &Tensor) -> Result<Tensor> {
    match has_fused(&[scores]) {
        true => candle_nn::ops::softmax_last_dim(&scores.contiguous()?),
        false => candle_nn::ops::softmax(scores, D::Minus1),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::random::Seed;
    use crate::vlm::ops::SharedPrompt;
    use candle_core::{DType, Device};

    pub(in crate::vlm::ops) fn numbers(label: &str, shape: (usize, usize)) -> Tensor {
        let stream = Seed(11).stream("pieces of attention", label, 0);
        let values: Vec<f32> = (0..shape.0 * shape.1).map(|i| stream.normal(i as u64) as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn products_that_f16_cannot_hold_are_scaled_before_they_are_formed() {
        // Products up to 16 * 90 * 90 = 129,600, where f16 ends at 65,504; scores up to 32,400, of
        // which the largest takes all the weight.
        let heads = Heads { query: 2, key_value: 1, dim: 16 };
        let row = |value: f32, width: usize| vec![value; width];
        let q = Tensor::from_vec([row(90.0, 32), row(90.0, 32)].concat(), (2, 32), &Device::Cpu).unwrap();
        let k = Tensor::from_vec([row(89.0, 16), row(90.0, 16)].concat(), (2, 16), &Device::Cpu).unwrap();
        let v = Tensor::from_vec([row(1.0, 16), row(2.0, 16)].concat(), (2, 16), &Device::Cpu).unwrap();
        let [q, k, v] = [q, k, v].map(|x| x.to_dtype(DType::F16).unwrap());
        let mixed = reference(&q, &k, &v, heads, &Segments::full(vec![2]), SCORES).unwrap();
        let mixed: Vec<f32> = mixed.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(mixed, [2.0; 64]);
    }

    #[test]
    fn scaling_in_two_steps_rounds_no_more_than_in_one() {
        let (q, k) = (numbers("q", (9, 12)), numbers("k", (7, 12)));
        for dtype in [DType::F32, DType::BF16] {
            let [q, k] = [&q, &k].map(|x| x.to_dtype(dtype).unwrap());
            for dim in [12, 64, 80, 128] {
                let heads = Heads { query: 1, key_value: 1, dim };
                let one = (widen_scores(&q.matmul(&k.t().unwrap()).unwrap()).unwrap() * scale(heads)).unwrap();
                let two = scaled_scores(&q, &k, heads).unwrap();
                assert_eq!(one.to_vec2::<f32>().unwrap(), two.to_vec2::<f32>().unwrap(), "{dtype:?}, {dim}");
            }
        }
    }

    #[test]
    fn attention_in_pieces_equals_attention_at_once() {
        let heads = Heads { query: 4, key_value: 2, dim: 6 };
        let shared = vec![
            SharedPrompt { prompt: 9, responses: vec![3, 3, 1] },
            SharedPrompt { prompt: 9, responses: vec![] },
            SharedPrompt { prompt: 5, responses: vec![7] },
        ];
        for segments in [Segments::causal(vec![7; 5]), Segments::full(vec![16, 4, 4, 16]), Segments::shared(shared)] {
            let tokens = segments.tokens();
            let (q, k, v) = (numbers("q", (tokens, 24)), numbers("k", (tokens, 12)), numbers("v", (tokens, 12)));
            let whole = reference(&q, &k, &v, heads, &segments, usize::MAX).unwrap();
            // One span at a time, two spans, some queries of a span, and one query at a time.
            for limit in [4 * 7 * 7, 2 * 4 * 7 * 7, 4 * 16 * 5, 150, 1] {
                let pieces = reference(&q, &k, &v, heads, &segments, limit).unwrap();
                let difference = (&whole - &pieces).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
                assert!(difference.to_scalar::<f32>().unwrap() < 1e-6, "{segments:?}, {limit}: {difference}");
            }
        }
    }
}
