//! Attention over cached keys and values by candle's operations.

use candle_core::{Device, Result, Tensor};

use super::attention_reference::{scaled_scores, softmax};
use super::segments::StepSegment;
use crate::kernels::attention::{BLOCK, Heads};

/// Indexes of a step's queries and keys, padded to one length for all sequences.
#[derive(Debug)]
pub(super) struct GatherIndexes {
    /// Largest number of queries of a sequence.
    queries: usize,
    /// Largest number of keys of a sequence.
    length: usize,
    /// Row of each query, `[sequences * queries]`; padding repeats a sequence's last query.
    rows: Tensor,
    /// Slot of each key, `[sequences * keys]`.
    slots: Tensor,
    /// Minus infinity where a query does not see a key, `[sequences, 1, 1, queries, keys]` in f32.
    mask: Tensor,
    /// Position of each new token among the padded queries, `[tokens]`.
    unpadded: Tensor,
}

impl GatherIndexes {
    pub(super) fn new(segments: &[StepSegment], device: &Device) -> Result<Self> {
        let count = segments.len();
        let queries = segments.iter().map(|s| s.tokens).max().unwrap_or(0);
        let length = segments.iter().map(|s| s.context + s.tokens).max().unwrap_or(0);
        let (mut slots, mut rows, mut mask) = (Vec::new(), Vec::new(), Vec::new());
        let (mut unpadded, mut first) = (Vec::new(), 0u32);
        for (i, s) in segments.iter().enumerate() {
            slots.extend(
                (0..length).map(|at| s.blocks.get(at / BLOCK).map_or(0, |b| b * BLOCK as u32 + (at % BLOCK) as u32)),
            );
            for query in 0..queries {
                let query = query.min(s.tokens - 1);
                rows.push(first + query as u32);
                mask.extend((0..length).map(|at| if at > s.context + query { f32::NEG_INFINITY } else { 0.0 }));
            }
            unpadded.extend((0..s.tokens).map(|query| (i * queries + query) as u32));
            first += s.tokens as u32;
        }
        Ok(Self {
            queries,
            length,
            rows: Tensor::new(rows, device)?,
            slots: Tensor::new(slots, device)?,
            mask: Tensor::from_vec(mask, (count, 1, 1, queries, length), device)?,
            unpadded: Tensor::new(unpadded, device)?,
        })
    }
}

/// Attends from `q` `[tokens, query heads * dim]` to gathered keys and values, with padding masked.
///
/// At most `limit` scores and `limit` elements of keys are in memory at a time, but at least those
/// of one query and of one sequence.
pub(super) fn reference(
    keys: &Tensor,
    values: &Tensor,
    heads: Heads,
    q: &Tensor,
    gather_indexes: &GatherIndexes,
    limit: usize,
) -> Result<Tensor> {
    let GatherIndexes { queries, length, slots, mask, .. } = gather_indexes;
    let (queries, length, count) = (*queries, *length, mask.dim(0)?);
    let (group, dim) = (heads.query / heads.key_value, heads.dim);
    // [count, key heads, group, queries, dim]: the heads that share a key head are more queries.
    let q = q.contiguous()?.index_select(&gather_indexes.rows, 0)?;
    let q = q.reshape((count, queries, heads.key_value, group, dim))?.permute((0, 2, 3, 1, 4))?.contiguous()?;
    let pieces = PieceSizes::within(limit, heads, [count, queries, length]);
    let mut parts = Vec::new();
    for first in (0..count).step_by(pieces.sequences) {
        let some = pieces.sequences.min(count - first);
        let slots = slots.narrow(0, first * length, some * length)?;
        let gather = |x: &Tensor| -> Result<Tensor> {
            x.index_select(&slots, 0)?.reshape((some, length, heads.key_value, dim))?.transpose(1, 2)?.contiguous()
        };
        let (k, v) = (gather(keys)?, gather(values)?);
        let (q, mask) = (q.narrow(0, first, some)?, mask.narrow(0, first, some)?);
        let mut rows = Vec::new();
        for row in (0..queries).step_by(pieces.queries) {
            let len = pieces.queries.min(queries - row);
            rows.push(attend_rows(&q.narrow(3, row, len)?, &k, &v, &mask.narrow(3, row, len)?, heads)?);
        }
        parts.push(Tensor::cat(&rows, 3)?);
    }
    let mixed = Tensor::cat(&parts, 0)?.permute((0, 3, 1, 2, 4))?.contiguous()?;
    mixed.reshape((count * queries, heads.query * dim))?.index_select(&gather_indexes.unpadded, 0)
}

/// Sizes of the pieces in which a step is computed.
#[derive(Debug, PartialEq, Eq)]
struct PieceSizes {
    /// Number of sequences.
    sequences: usize,
    /// Number of queries of each sequence.
    queries: usize,
}

impl PieceSizes {
    /// Chooses sizes that keep `limit`: some sequences at a time or, where one is too large, some
    /// of its queries.
    fn within(limit: usize, heads: Heads, [count, queries, length]: [usize; 3]) -> Self {
        let scores_per_query = (heads.query * length).max(1);
        let gathered = heads.key_value * heads.dim * length;
        Self {
            sequences: (limit / (queries * scores_per_query).max(gathered).max(1)).clamp(1, count.max(1)),
            queries: (limit / scores_per_query).clamp(1, queries.max(1)),
        }
    }
}

/// Computes `softmax(q kᵀ / sqrt(dim) + mask) v`, `[count, key heads, group, queries, dim]`.
fn attend_rows(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor, heads: Heads) -> Result<Tensor> {
    let (count, key_heads, group, queries, dim) = q.dims5()?;
    let length = k.dim(2)?;
    let q = q.contiguous()?.reshape((count, key_heads, group * queries, dim))?;
    let scores = scaled_scores(&q, k, heads)?.reshape((count, key_heads, group, queries, length))?;
    let scores = scores.broadcast_add(&mask.to_dtype(scores.dtype())?)?;
    let weights = softmax(&scores)?.to_dtype(q.dtype())?.reshape((count, key_heads, group * queries, length))?;
    weights.matmul(v)?.reshape((count, key_heads, group, queries, dim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vlm::ops::Step;
    use crate::vlm::ops::attention_reference::SCORES;
    use crate::vlm::ops::attention_reference::tests::numbers;
    use candle_core::DType;

    const HEADS: Heads = Heads { query: 4, key_value: 2, dim: 6 };

    fn step(sequences: &[(usize, usize)]) -> Step {
        let mut step = Step::default();
        let mut block = 0;
        for &(context, tokens) in sequences {
            let blocks: Vec<u32> = (block..).take((context + tokens).div_ceil(BLOCK)).collect();
            block += blocks.len() as u32;
            step.segments.push(StepSegment { tokens, context, blocks });
        }
        step
    }

    #[test]
    fn attention_in_pieces_equals_attention_at_once() {
        for sequences in [&[(0, 40)][..], &[(5, 1), (70, 1), (31, 1)], &[(3, 9), (0, 20), (17, 2), (0, 1)]] {
            let step = step(sequences);
            let (keys, values) = (numbers("k", (20 * BLOCK, 12)), numbers("v", (20 * BLOCK, 12)));
            let q = numbers("q", (step.tokens(), 24));
            let gather_indexes = GatherIndexes::new(&step.segments, &Device::Cpu).unwrap();
            let whole = reference(&keys, &values, HEADS, &q, &gather_indexes, usize::MAX).unwrap();
            // All but one sequence, one sequence, some of its queries, and one query at a time.
            for limit in [2 * 4 * 20 * 20, 4 * 40 * 40, 4 * 71 * 2, 700, 1] {
                let pieces = reference(&keys, &values, HEADS, &q, &gather_indexes, limit).unwrap();
                let difference = (&whole - &pieces).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
                assert!(difference.to_scalar::<f32>().unwrap() < 1e-6, "{sequences:?}, {limit}: {difference}");
            }
        }
    }

    #[test]
    fn a_large_image_and_many_long_sequences_stay_within_32_bits() {
        let mimo = Heads { query: 32, key_value: 8, dim: 128 };
        // The prompt of an image of 12.8 megapixels, the first step of 1024 sequences with one, and
        // an ordinary step.
        let [image, many, ordinary] = [[1, 16_500, 16_500], [1024, 1, 17_000], [256, 1, 900]];
        for shape @ [count, queries, length] in [image, many, ordinary] {
            let pieces = PieceSizes::within(SCORES, mimo, shape);
            let scores = pieces.sequences * pieces.queries * mimo.query * length;
            let keys = pieces.sequences * mimo.key_value * mimo.dim * length;
            assert!(scores <= SCORES && keys <= SCORES, "{shape:?}: {pieces:?}");
            assert!(pieces.sequences <= count && pieces.queries <= queries);
        }
        assert_eq!(PieceSizes::within(SCORES, mimo, ordinary), PieceSizes { sequences: 256, queries: 1 });
        assert_eq!(PieceSizes::within(SCORES, mimo, image), PieceSizes { sequences: 1, queries: 508 });
    }

    #[test]
    fn products_that_f16_cannot_hold_are_scaled_before_they_are_formed() {
        let heads = Heads { query: 1, key_value: 1, dim: 16 };
        let step = step(&[(0, 2)]);
        let rows = |first: f32, second: f32, count: usize| {
            let values: Vec<f32> = [vec![first; 16], vec![second; 16 * (count - 1)]].concat();
            Tensor::from_vec(values, (count, 16), &Device::Cpu).unwrap().to_dtype(DType::F16).unwrap()
        };
        let gather_indexes = GatherIndexes::new(&step.segments, &Device::Cpu).unwrap();
        let (keys, values) = (rows(89.0, 90.0, BLOCK), rows(1.0, 2.0, BLOCK));
        let mixed = reference(&keys, &values, heads, &rows(90.0, 90.0, 2), &gather_indexes, SCORES).unwrap();
        let mixed: Vec<f32> = mixed.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(mixed, [[1.0; 16], [2.0; 16]].concat());
    }
}
