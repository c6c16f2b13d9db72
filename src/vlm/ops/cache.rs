//! The KV cache of a layer, and attention over it.
//!
//! The cache consists of blocks of [`BLOCK`] tokens, allocated once. A sequence is a list of block
//! numbers, so sequences with a common prefix share the prefix's blocks; the sampling engine
//! decides which sequence owns which block. On a CPU the blocks have the layout of the attention
//! kernel; elsewhere they are rows of two tensors.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::attention_reference::{SCORES, scale};
use super::cached_reference::{GatherIndexes, reference};
use super::lazy::LazyDerived;
use super::path::Ops;
use super::segments::StepSegment;
use super::storage::with_rows;
use crate::kernels::attention::{BLOCK, Heads, KvBlocks, Segment, attend};

const NAME: &str = "attention with a cache";

/// The keys and values of one layer.
#[derive(Debug)]
pub struct LayerCache {
    heads: Heads,
    #[cfg(feature = "cuda")]
    ops: Ops,
    store: Store,
}

/// The memory of a layer's blocks.
#[derive(Debug)]
enum Store {
    /// In the layout of the CPU kernel.
    Blocks(KvBlocks),
    /// `[blocks * BLOCK, key heads * dim]` each.
    Rows { keys: Tensor, values: Tensor },
}

/// One forward pass of the model over the new tokens of some sequences, concatenated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// The sequences; complete before the first layer attends.
    pub segments: Vec<StepSegment>,
    indexes: CacheIndexes,
}

/// Positions of a step's tokens and keys in a cache of rows, on its device. All layers share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct CacheIndexes {
    /// Slot of each new token, `[tokens, width]`, for candle's scatter.
    scatter_index: LazyDerived<Tensor>,
    /// Indexes that the reference attention gathers by.
    gather_indexes: LazyDerived<GatherIndexes>,
    /// Slot of each new token, `[tokens]`, for our GPU kernel that stores them.
    #[cfg(feature = "cuda")]
    slots: LazyDerived<Tensor>,
    /// Block tables for our GPU attention kernel.
    #[cfg(feature = "cuda")]
    block_tables: LazyDerived<crate::device::cuda::kernels::BlockTables>,
}

impl Step {
    /// Returns the number of new tokens in all sequences.
    pub fn tokens(&self) -> usize {
        self.segments.iter().map(|s| s.tokens).sum()
    }

    /// Returns the slot of every new token: block number * [`BLOCK`] + offset.
    fn slots(&self) -> Vec<u32> {
        let slot = |s: &StepSegment, at: usize| s.blocks[at / BLOCK] * BLOCK as u32 + (at % BLOCK) as u32;
        self.segments.iter().flat_map(|s| (s.context..s.context + s.tokens).map(move |at| slot(s, at))).collect()
    }
}

impl LayerCache {
    /// Allocates a cache of `blocks` blocks.
    pub fn new(ops: Ops, heads: Heads, blocks: usize, dtype: DType, device: &Device) -> Result<Self> {
        let store = if ops.uses_cpu_kernels(device, dtype) {
            Store::Blocks(KvBlocks::zeroed(heads, blocks))
        } else {
            let shape = (blocks * BLOCK, heads.key_value * heads.dim);
            Store::Rows { keys: Tensor::zeros(shape, dtype, device)?, values: Tensor::zeros(shape, dtype, device)? }
        };
        Ok(Self {
            heads,
            #[cfg(feature = "cuda")]
            ops,
            store,
        })
    }

    /// Copies block `from` over block `to`.
    pub fn copy_block(&mut self, from: u32, to: u32) -> Result<()> {
        let (from, to) = (from as usize, to as usize);
        match &mut self.store {
            Store::Blocks(blocks) => blocks.copy(from, to),
            Store::Rows { keys, values } => {
                let (from, to) = (from * BLOCK, to * BLOCK);
                #[cfg(feature = "cuda")]
                if self.ops.uses_gpu_kernels_for(&[keys, values]) {
                    return crate::device::cuda::kernels::copy_rows(keys, values, from, to, BLOCK);
                }
                for rows in [keys, values] {
                    // candle's `copy` would copy the whole cache.
                    let block = rows.narrow(0, from, BLOCK)?.force_contiguous()?;
                    rows.slice_set(&block, 0, to)?;
                }
            }
        }
        Ok(())
    }

    /// Stores the step's keys and values, then attends to all that its sequences have in the cache.
    ///
    /// `q` is `[tokens, query heads * dim]`, `k` and `v` are `[tokens, key heads * dim]`. Returns
    /// `[tokens, query heads * dim]`.
    pub fn attend(&mut self, q: &Tensor, k: &Tensor, v: &Tensor, step: &Step) -> Result<Tensor> {
        if step.tokens() != q.dim(0)? {
            bail!("attention: a step of {} tokens for {} tokens", step.tokens(), q.dim(0)?);
        }
        let heads = self.heads;
        match &mut self.store {
            Store::Blocks(blocks) => attend_on_cpu(blocks, heads, [q, k, v], step),
            Store::Rows { keys, values } => {
                #[cfg(feature = "cuda")]
                if self.ops.uses_gpu_kernels_for(&[q, k, v]) {
                    return attend_on_gpu(keys, values, heads, [q, k, v], step);
                }
                let to = step.indexes.scatter_index.get(|| scatter_index(step, k.dim(1)?, k.device()))?;
                keys.scatter_set(to, &k.contiguous()?, 0)?;
                values.scatter_set(to, &v.contiguous()?, 0)?;
                attend_by_reference(keys, values, heads, q, step)
            }
        }
    }
}

fn scatter_index(step: &Step, width: usize, device: &Device) -> Result<Tensor> {
    Tensor::new(step.slots(), device)?.unsqueeze(1)?.broadcast_as((step.tokens(), width))?.contiguous()
}

fn attend_by_reference(keys: &Tensor, values: &Tensor, heads: Heads, q: &Tensor, step: &Step) -> Result<Tensor> {
    let gather_indexes = step.indexes.gather_indexes.get(|| GatherIndexes::new(&step.segments, q.device()))?;
    reference(keys, values, heads, q, gather_indexes, SCORES)
}

/// Stores keys and values with our GPU kernel, and computes attention with our kernels where each
/// sequence has one new token. The attention of a prompt is candle's.
#[cfg(feature = "cuda")]
fn attend_on_gpu(keys: &Tensor, values: &Tensor, heads: Heads, [q, k, v]: [&Tensor; 3], step: &Step) -> Result<Tensor> {
    use crate::device::cuda::kernels;

    let slots = step.indexes.slots.get(|| slots(step, keys.dim(0)?, k.device()))?;
    kernels::store(k, v, slots, keys, values)?;
    if kernels::can_attend(heads) && step.segments.iter().all(|s| s.tokens == 1) {
        let block_tables = step.indexes.block_tables.get(|| block_tables(step, q.device()))?;
        return kernels::attend(
            q,
            [keys, values],
            heads,
            scale(heads) as f32,
            block_tables,
            kernels::MAX_PARTIAL_ELEMENTS,
        );
    }
    attend_by_reference(keys, values, heads, q, step)
}

/// Returns the slot of each new token. A slot outside the cache of `rows` slots is an error: a
/// kernel would write there.
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
fn block_tables(step: &Step, device: &Device) -> Result<crate::device::cuda::kernels::BlockTables> {
    let most = step.segments.iter().map(|s| s.blocks.len()).max().unwrap_or(0);
    let lengths: Vec<u32> = step.segments.iter().map(|s| (s.context + s.tokens) as u32).collect();
    let blocks = step.segments.iter().flat_map(|s| (0..most).map(|i| s.blocks.get(i).copied().unwrap_or(0))).collect();
    Ok(crate::device::cuda::kernels::BlockTables {
        longest: lengths.iter().max().map_or(0, |longest| *longest as usize),
        blocks: Tensor::from_vec(blocks, (step.segments.len(), most), device)?,
        lengths: Tensor::new(lengths, device)?,
    })
}

fn attend_on_cpu(blocks: &mut KvBlocks, heads: Heads, [q, k, v]: [&Tensor; 3], step: &Step) -> Result<Tensor> {
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
