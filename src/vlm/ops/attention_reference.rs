//! Attention by candle's operations: what a card computes by, with gradients or without.

use std::collections::BTreeMap;

use candle_core::{D, Device, Result, Tensor};

use super::attention::scale;
use super::path::{has_fused, wide};
use super::segments::Segments;
use crate::kernels::attention::Heads;

/// Scores that are alive at once. candle's kernels count elements in 32 bits, and a large image has more: 16 heads over 21,400
/// patches are seven thousand millions.
pub(super) const SCORES: usize = 1 << 28;

/// Where the tokens of segments lie, by the shape of the segments; the same in every layer.
#[derive(Debug)]
pub(super) struct Plan {
    batches: Vec<Batch>,
    /// Brings the batches' tokens, one after the other, back to their places; none where they are in place.
    back: Option<Tensor>,
}

/// Segments of the same lengths, which are one batch of matrix products.
#[derive(Debug)]
struct Batch {
    /// Segments.
    count: usize,
    /// Queries of each.
    own: usize,
    /// The queries' tokens and the keys'; none where they are all tokens in their order.
    tokens: Option<[Tensor; 2]>,
    /// Minus infinity where a query does not see a key, `[own, prefix + own]` in f32.
    mask: Option<Tensor>,
}

impl Plan {
    pub(super) fn new(segments: &Segments, device: &Device) -> Result<Self> {
        // By the number of keys before the first query and the number of queries: the queries' tokens and the keys'.
        let mut by_lengths: BTreeMap<(usize, usize), (Vec<u32>, Vec<u32>)> = BTreeMap::new();
        for part in segments.parts() {
            let (queries, keys) = by_lengths.entry((part.prefix.len(), part.own.len())).or_default();
            queries.extend(part.own.clone().map(|i| i as u32));
            keys.extend(part.prefix.chain(part.own).map(|i| i as u32));
        }
        let in_place = by_lengths.len() == 1 && by_lengths.contains_key(&(0, segments.longest()));
        let mut batches = Vec::new();
        let mut back = vec![0u32; segments.tokens()];
        let mut place = 0;
        for ((prefix, own), (queries, keys)) in by_lengths {
            for token in &queries {
                back[*token as usize] = place;
                place += 1;
            }
            let mask = if segments.is_causal() { Some(causal_mask(prefix, own, device)?) } else { None };
            let count = queries.len() / own;
            let tokens = match in_place {
                true => None,
                false => Some([Tensor::new(queries, device)?, Tensor::new(keys, device)?]),
            };
            batches.push(Batch { count, own, tokens, mask });
        }
        let back = if in_place { None } else { Some(Tensor::new(back, device)?) };
        Ok(Self { batches, back })
    }
}

/// A query sees the keys before the first query, itself and what came between.
fn causal_mask(prefix: usize, own: usize, device: &Device) -> Result<Tensor> {
    let row = |i: usize| (0..prefix + own).map(move |j| if j > prefix + i { f32::NEG_INFINITY } else { 0.0 });
    let mask: Vec<f32> = (0..own).flat_map(row).collect();
    Tensor::from_vec(mask, (own, prefix + own), device)
}

/// See [`attention`](super::attention()); at most `limit` scores are alive at once, but for those of one query.
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
        let k = repeat(pick(&k, 1, heads.key_value)?, heads)?; // [count, heads, prefix + own, dim]
        let v = repeat(pick(&v, 1, heads.key_value)?, heads)?;
        let mixed = in_pieces(&q, &k, &v, heads, batch.mask.as_ref(), limit)?;
        parts.push(mixed.transpose(1, 2)?.reshape((batch.count * batch.own, heads.query * heads.dim))?);
    }
    match &plan.back {
        None => Ok(parts.swap_remove(0)),
        Some(back) => Tensor::cat(&parts, 0)?.index_select(back, 0),
    }
}

/// Segments at a time, or where one is too large rows of its queries.
fn in_pieces(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, mask: Option<&Tensor>, limit: usize) -> Result<Tensor> {
    let (count, _, own, _) = q.dims4()?;
    let keys = k.dim(2)?;
    let a_query = (heads.query * keys).max(1);
    if count * own * a_query <= limit {
        return attend(q, k, v, heads, mask);
    }
    let at_once = (limit / (own * a_query)).max(1);
    let rows = (limit / a_query).clamp(1, own);
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

/// `softmax(q kᵀ / sqrt(dim) + mask) v`, `[count, heads, queries, dim]`.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, mask: Option<&Tensor>) -> Result<Tensor> {
    let scores = scaled_scores(q, k, heads)?; // [count, heads, queries, keys]
    let scores = match mask {
        Some(mask) => scores.broadcast_add(&mask.to_dtype(scores.dtype())?)?,
        None => scores,
    };
    softmax(&scores)?.to_dtype(q.dtype())?.matmul(v)
}

/// Key heads repeated for the query heads that they serve.
fn repeat(x: Tensor, heads: Heads) -> Result<Tensor> {
    let (count, key_value, length, dim) = x.dims4()?;
    let group = heads.query / heads.key_value;
    let repeated = x.unsqueeze(2)?.broadcast_as((count, key_value, group, length, dim))?;
    repeated.reshape((count, heads.query, length, dim))
}

/// `q kᵀ / sqrt(dim)` in f32 at least.
///
/// Of the factor, a power of two is multiplied into the queries: that rounds nothing but f16 numbers next to zero, and products
/// that f16 cannot hold are small enough before they are formed. The rest, between one and two, comes to the wide scores.
pub(super) fn scaled_scores(q: &Tensor, k: &Tensor, heads: Heads) -> Result<Tensor> {
    let scale = scale(heads);
    let power = scale.log2().floor().exp2();
    widened(&(q * power)?.matmul(&k.t()?)?)? * (scale / power)
}

/// Scores in the format that the mask and the softmax are computed in.
fn widened(scores: &Tensor) -> Result<Tensor> {
    scores.to_dtype(wide(scores.dtype()))
}

/// The softmax over the last dimension.
pub(super) fn softmax(scores: &Tensor) -> Result<Tensor> {
    match has_fused(&[scores]) {
        true => candle_nn::ops::softmax_last_dim(&scores.contiguous()?),
        false => candle_nn::ops::softmax(scores, D::Minus1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;
    use crate::vlm::ops::SharedPrompt;
    use candle_core::DType;

    fn numbers(label: &str, shape: (usize, usize)) -> Tensor {
        let stream = Seed(11).stream("pieces of attention", label, 0);
        let values: Vec<f32> = (0..shape.0 * shape.1).map(|i| stream.normal(i as u64) as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn products_that_f16_cannot_hold_are_scaled_before_they_are_formed() {
        // Products to 16 * 90 * 90 = 129,600, where f16 ends at 65,504; scores to 32,400, of which the largest takes all the weight.
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
                let one = (widened(&q.matmul(&k.t().unwrap()).unwrap()).unwrap() * scale(heads)).unwrap();
                let two = scaled_scores(&q, &k, heads).unwrap();
                assert_eq!(one.to_vec2::<f32>().unwrap(), two.to_vec2::<f32>().unwrap(), "{dtype:?}, {dim}");
            }
        }
    }

    #[test]
    fn pieces_make_the_whole() {
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
            // A segment at a time, two, some rows of one, and a row at a time.
            for limit in [4 * 7 * 7, 2 * 4 * 7 * 7, 4 * 16 * 5, 150, 1] {
                let pieces = reference(&q, &k, &v, heads, &segments, limit).unwrap();
                let apart = (&whole - &pieces).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
                assert!(apart.to_scalar::<f32>().unwrap() < 1e-6, "{segments:?}, {limit}: {apart}");
            }
        }
    }
}
