//! Attention that goes on from cached keys and values.

use candle_core::{Device, Result, Tensor, bail};

use super::attention::scale;
use super::attention_composed::{softmax, wide};
use super::storage::with_rows;
use crate::kernels::attention::{BLOCK, Blocks, Heads, Segment, attend};
use crate::vlm::cache::{LayerCache, Step, Store};

const NAME: &str = "attention with a cache";

/// Stores the step's keys and values, then attends; see [`LayerCache::attend`].
pub(crate) fn cached_attention(
    cache: &mut LayerCache,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    step: &Step,
) -> Result<Tensor> {
    let heads = cache.heads;
    match &mut cache.store {
        Store::Kernel(blocks) => on_kernels(blocks, heads, [q, k, v], step),
        Store::Rows { keys, values } => {
            let gathering = step.gathering.get(|| Gathering::new(step, k.dim(1)?, q.device()))?;
            keys.scatter_set(&gathering.store, &k.contiguous()?, 0)?;
            values.scatter_set(&gathering.store, &v.contiguous()?, 0)?;
            composed(keys, values, heads, q, gathering)
        }
    }
}

fn on_kernels(blocks: &mut Blocks, heads: Heads, [q, k, v]: [&Tensor; 3], step: &Step) -> Result<Tensor> {
    with_rows(NAME, k, |k| {
        with_rows(NAME, v, |v| {
            if k.width != heads.key_value * heads.dim || v.width != k.width {
                bail!("{NAME}: keys and values of width {}, {} do not fit {heads:?}", k.width, v.width);
            }
            for (row, slot) in step.slots().into_iter().enumerate() {
                let (block, offset) = (slot as usize / BLOCK, slot as usize % BLOCK);
                let (key, value) = (&k.data[row * k.stride..][..k.width], &v.data[row * v.stride..][..v.width]);
                blocks.store(block, offset, key, value);
            }
            Ok(())
        })
    })?;
    let segments: Vec<_> = step
        .segments
        .iter()
        .map(|s| Segment { queries: s.tokens, first_limit: s.context + 1, causal: true, blocks: &s.blocks })
        .collect();
    with_rows(NAME, q, |q| {
        let mut out = vec![0f32; q.count * q.width];
        attend(q.data, q.stride, blocks, &segments, scale(heads) as f32, &mut out);
        Tensor::from_vec(out, (q.count, q.width), &Device::Cpu)
    })
}

/// Where a step's tokens and their keys lie; the same in every layer.
#[derive(Debug)]
pub(crate) struct Gathering {
    /// Queries of a sequence, the most, and keys of one, the most.
    queries: usize,
    length: usize,
    /// For each new token its slot, `[tokens, width]`: what its keys and values are stored by.
    store: Tensor,
    /// For each query of each sequence, all made as many as the most, its row; a query that is not there repeats the last one.
    rows: Tensor,
    /// For each key of each sequence, all made as many as the most, its slot.
    slots: Tensor,
    /// Minus infinity where a query does not see a key, `[sequences, 1, 1, queries, keys]` in f32.
    mask: Tensor,
    /// For each new token its place among the queries.
    back: Tensor,
}

impl Gathering {
    fn new(step: &Step, width: usize, device: &Device) -> Result<Self> {
        let count = step.segments.len();
        let queries = step.segments.iter().map(|s| s.tokens).max().unwrap_or(0);
        let length = step.segments.iter().map(|s| s.context + s.tokens).max().unwrap_or(0);
        let (mut slots, mut rows, mut mask) = (Vec::new(), Vec::new(), Vec::new());
        let (mut back, mut first) = (Vec::new(), 0u32);
        for (i, s) in step.segments.iter().enumerate() {
            slots.extend(
                (0..length).map(|at| s.blocks.get(at / BLOCK).map_or(0, |b| b * BLOCK as u32 + (at % BLOCK) as u32)),
            );
            for query in 0..queries {
                let query = query.min(s.tokens - 1);
                rows.push(first + query as u32);
                mask.extend((0..length).map(|at| if at > s.context + query { f32::NEG_INFINITY } else { 0.0 }));
            }
            back.extend((0..s.tokens).map(|query| (i * queries + query) as u32));
            first += s.tokens as u32;
        }
        let store = Tensor::new(step.slots(), device)?.unsqueeze(1)?;
        Ok(Self {
            queries,
            length,
            store: store.broadcast_as((step.tokens(), width))?.contiguous()?,
            rows: Tensor::new(rows, device)?,
            slots: Tensor::new(slots, device)?,
            mask: Tensor::from_vec(mask, (count, 1, 1, queries, length), device)?,
            back: Tensor::new(back, device)?,
        })
    }
}

/// Gathers every sequence's keys and values and masks what is not there.
fn composed(keys: &Tensor, values: &Tensor, heads: Heads, q: &Tensor, gathering: &Gathering) -> Result<Tensor> {
    let Gathering { queries, length, slots, mask, .. } = gathering;
    let (queries, length, count) = (*queries, *length, mask.dim(0)?);
    let (group, dim) = (heads.query / heads.key_value, heads.dim);
    let gather = |x: &Tensor| -> Result<Tensor> {
        x.index_select(slots, 0)?.reshape((count, length, heads.key_value, dim))?.transpose(1, 2)?.contiguous()
    };
    // [count, key heads, group * queries, dim]: the heads that share a key head are more queries.
    let q = q.contiguous()?.index_select(&gathering.rows, 0)?;
    let q = q.reshape((count, queries, heads.key_value, group, dim))?.permute((0, 2, 3, 1, 4))?.contiguous()?;
    let q = q.reshape((count, heads.key_value, group * queries, dim))?;
    let scores = (wide(&q.matmul(&gather(keys)?.t()?)?)? * scale(heads))?;
    let scores = scores.reshape((count, heads.key_value, group, queries, length))?;
    let scores = scores.broadcast_add(&mask.to_dtype(scores.dtype())?)?;
    let weights = softmax(&scores)?.to_dtype(q.dtype())?.reshape((count, heads.key_value, group * queries, length))?;
    let mixed = weights.matmul(&gather(values)?)?.reshape((count, heads.key_value, group, queries, dim))?;
    let mixed = mixed.permute((0, 3, 1, 2, 4))?.contiguous()?.reshape((count * queries, heads.query * dim))?;
    mixed.index_select(&gathering.back, 0)
}
