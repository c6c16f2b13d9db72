//! Attention that goes on from cached keys and values.

use candle_core::{Device, Result, Tensor, bail};

use super::attention::scale;
use super::attention_reference::SCORES;
use super::cached_reference::{Gathering, reference};
use super::lazy::LazyDerived;
use super::path::Ops;
use super::storage::with_rows;
use crate::kernels::attention::{BLOCK, Heads, KvBlocks, Segment, attend};
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
            #[cfg(feature = "cuda")]
            if cache.ops.uses_gpu_kernels_for(&[q, k, v]) {
                return on_card(keys, values, heads, [q, k, v], step);
            }
            let to = step.indexes.scattering.get(|| scattering(step, k.dim(1)?, k.device()))?;
            keys.scatter_set(to, &k.contiguous()?, 0)?;
            values.scatter_set(to, &v.contiguous()?, 0)?;
            let gathering = step.indexes.gathering.get(|| Gathering::new(step, q.device()))?;
            reference(keys, values, heads, q, gathering, SCORES)
        }
    }
}

/// Where a step's tokens and their keys lie in a cache of rows, on its device: the same in every layer, so made once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CacheIndexes {
    /// For each new token its slot, `[tokens, width]`: what candle stores keys and values by.
    scattering: LazyDerived<Tensor>,
    /// For the composed attention.
    gathering: LazyDerived<Gathering>,
    /// For each new token its slot, `[tokens]`: what our kernel stores them by.
    #[cfg(feature = "cuda")]
    slots: LazyDerived<Tensor>,
    /// For our attention kernel.
    #[cfg(feature = "cuda")]
    decoding: LazyDerived<crate::device::cuda::kernels::Decoding>,
}

fn scattering(step: &Step, width: usize, device: &Device) -> Result<Tensor> {
    Tensor::new(step.slots(), device)?.unsqueeze(1)?.broadcast_as((step.tokens(), width))?.contiguous()
}

/// Our kernels for a card: they store keys and values, and attend where each sequence goes on by one token. A prompt's attention is
/// candle's matrix products.
#[cfg(feature = "cuda")]
fn on_card(keys: &Tensor, values: &Tensor, heads: Heads, [q, k, v]: [&Tensor; 3], step: &Step) -> Result<Tensor> {
    use crate::device::cuda::kernels;

    let slots = step.indexes.slots.get(|| slots(step, keys.dim(0)?, k.device()))?;
    kernels::store(k, v, slots, keys, values)?;
    if kernels::can_attend(heads) && step.segments.iter().all(|s| s.tokens == 1) {
        let decoding = step.indexes.decoding.get(|| decoding(step, q.device()))?;
        return kernels::attend(q, [keys, values], heads, scale(heads) as f32, decoding, kernels::PARTS);
    }
    let gathering = step.indexes.gathering.get(|| Gathering::new(step, q.device()))?;
    reference(keys, values, heads, q, gathering, SCORES)
}

/// For each new token its slot; a kernel must not be given one outside the cache of `rows` slots.
#[cfg(feature = "cuda")]
fn slots(step: &Step, rows: usize, device: &Device) -> Result<Tensor> {
    for s in &step.segments {
        let last = s.blocks.iter().max().map_or(0, |block| *block as usize);
        if (last + 1) * BLOCK > rows || s.blocks.len() * BLOCK < s.context + s.tokens {
            bail!(
                "{NAME}: {} tokens in {} blocks up to {last} of a cache of {rows} slots",
                s.context + s.tokens,
                s.blocks.len()
            );
        }
    }
    Tensor::new(step.slots(), device)
}

#[cfg(feature = "cuda")]
fn decoding(step: &Step, device: &Device) -> Result<crate::device::cuda::kernels::Decoding> {
    let most = step.segments.iter().map(|s| s.blocks.len()).max().unwrap_or(0);
    let lengths: Vec<u32> = step.segments.iter().map(|s| (s.context + s.tokens) as u32).collect();
    let blocks = step.segments.iter().flat_map(|s| (0..most).map(|i| s.blocks.get(i).copied().unwrap_or(0))).collect();
    Ok(crate::device::cuda::kernels::Decoding {
        longest: lengths.iter().max().map_or(0, |longest| *longest as usize),
        blocks: Tensor::from_vec(blocks, (step.segments.len(), most), device)?,
        lengths: Tensor::new(lengths, device)?,
    })
}

/// Copies a block of a cache of rows, from row `from` on, over the one from row `to` on.
pub(crate) fn copy_rows(ops: Ops, keys: &Tensor, values: &Tensor, from: usize, to: usize) -> Result<()> {
    #[cfg(not(feature = "cuda"))]
    let _ = ops;
    #[cfg(feature = "cuda")]
    if ops.uses_gpu_kernels_for(&[keys, values]) {
        return crate::device::cuda::kernels::copy_rows(keys, values, from, to, BLOCK);
    }
    for rows in [keys, values] {
        // candle's `copy` would copy the whole cache.
        let block = rows.narrow(0, from, BLOCK)?.force_contiguous()?;
        rows.slice_set(&block, 0, to)?;
    }
    Ok(())
}

fn on_kernels(blocks: &mut KvBlocks, heads: Heads, [q, k, v]: [&Tensor; 3], step: &Step) -> Result<Tensor> {
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
