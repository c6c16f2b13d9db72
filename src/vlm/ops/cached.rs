//! Attention that goes on from cached keys and values.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::attention::{scale, softmax};
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
            let slots = step.slots();
            let index = Tensor::new(slots, q.device())?.unsqueeze(1)?.broadcast_as(k.shape())?.contiguous()?;
            keys.scatter_set(&index, &k.contiguous()?, 0)?;
            values.scatter_set(&index, &v.contiguous()?, 0)?;
            composed(keys, values, heads, q, step)
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

/// Gathers every sequence's keys and values, all made as long as the longest, and masks what is not there.
fn composed(keys: &Tensor, values: &Tensor, heads: Heads, q: &Tensor, step: &Step) -> Result<Tensor> {
    let (count, device) = (step.segments.len(), q.device());
    let queries = step.segments.iter().map(|s| s.tokens).max().unwrap_or(0);
    let length = step.segments.iter().map(|s| s.context + s.tokens).max().unwrap_or(0);
    let (mut slots, mut rows, mut mask) = (Vec::new(), Vec::new(), Vec::new());
    let (mut back, mut first) = (Vec::new(), 0u32);
    for (i, s) in step.segments.iter().enumerate() {
        slots.extend(
            (0..length).map(|at| s.blocks.get(at / BLOCK).map_or(0, |b| b * BLOCK as u32 + (at % BLOCK) as u32)),
        );
        for query in 0..queries {
            // A query that is not there repeats the last one; its result is left out.
            let query = query.min(s.tokens - 1);
            rows.push(first + query as u32);
            mask.extend((0..length).map(|at| if at > s.context + query { f32::NEG_INFINITY } else { 0.0 }));
        }
        back.extend((0..s.tokens).map(|query| (i * queries + query) as u32));
        first += s.tokens as u32;
    }
    let slots = Tensor::new(slots, device)?;
    let (group, dim) = (heads.query / heads.key_value, heads.dim);
    let gather = |x: &Tensor| -> Result<Tensor> {
        x.index_select(&slots, 0)?.reshape((count, length, heads.key_value, dim))?.transpose(1, 2)?.contiguous()
    };
    // [count, key heads, group * queries, dim]: the heads that share a key head are more queries.
    let q = q.contiguous()?.index_select(&Tensor::new(rows, device)?, 0)?;
    let q = q.reshape((count, queries, heads.key_value, group, dim))?.permute((0, 2, 3, 1, 4))?.contiguous()?;
    let q = q.reshape((count, heads.key_value, group * queries, dim))?;
    let scores = (q.matmul(&gather(keys)?.t()?)? * scale(heads))?;
    let mask = Tensor::from_vec(mask, (count, 1, 1, queries, length), device)?.to_dtype(DType::F32)?;
    let scores = scores.reshape((count, heads.key_value, group, queries, length))?;
    let scores = scores.broadcast_add(&mask.to_dtype(scores.dtype())?)?;
    let weights = softmax(&scores)?.reshape((count, heads.key_value, group * queries, length))?;
    let mixed = weights.matmul(&gather(values)?)?.reshape((count, heads.key_value, group, queries, dim))?;
    let mixed = mixed.permute((0, 3, 1, 2, 4))?.contiguous()?.reshape((count * queries, heads.query * dim))?;
    mixed.index_select(&Tensor::new(back, device)?, 0)
}
