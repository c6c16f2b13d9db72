//! The cache of keys and values: blocks of tokens, allocated once, shared by sequences with a common beginning.
//!
//! A sequence is a list of block numbers; who owns which block is the business of the sampling engine. On a CPU the
//! blocks are laid out for the attention kernel; on a device they are rows of one tensor a layer.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::ops::{Ops, Places, cached_attention, copy_rows};
use crate::kernels::attention::{BLOCK, Heads, KvBlocks};

/// The keys and values of one layer.
#[derive(Debug)]
pub struct LayerCache {
    pub(super) heads: Heads,
    pub(super) ops: Ops,
    pub(super) store: Store,
}

/// Where the blocks are.
#[derive(Debug)]
pub(super) enum Store {
    /// Laid out for the kernels.
    Kernel(KvBlocks),
    /// `[blocks * BLOCK, key heads * dim]` each.
    Rows { keys: Tensor, values: Tensor },
}

/// Tokens of one step that go on a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepSegment {
    /// New tokens.
    pub tokens: usize,
    /// Tokens already cached.
    pub context: usize,
    /// The sequence's blocks, from its first token on; enough for the new tokens too.
    pub blocks: Vec<u32>,
}

/// One step: some sequences, each with its new tokens, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// The sequences.
    pub segments: Vec<StepSegment>,
    /// Where the cache is rows; made when the first layer attends, so the sequences must be complete by then.
    pub(super) indexes: CacheIndexes,
}

impl Step {
    /// New tokens in all.
    pub fn tokens(&self) -> usize {
        self.segments.iter().map(|s| s.tokens).sum()
    }

    /// The slot of every new token: block number * [`BLOCK`] + offset.
    pub(super) fn slots(&self) -> Vec<u32> {
        let slot = |s: &StepSegment, at: usize| s.blocks[at / BLOCK] * BLOCK as u32 + (at % BLOCK) as u32;
        self.segments.iter().flat_map(|s| (s.context..s.context + s.tokens).map(move |at| slot(s, at))).collect()
    }
}

impl LayerCache {
    /// Room for `blocks` blocks.
    pub fn new(ops: Ops, heads: Heads, blocks: usize, dtype: DType, device: &Device) -> Result<Self> {
        let store = if ops.uses_cpu_kernels(device, dtype) {
            Store::Kernel(KvBlocks::zeroed(heads, blocks))
        } else {
            let shape = (blocks * BLOCK, heads.key_value * heads.dim);
            Store::Rows { keys: Tensor::zeros(shape, dtype, device)?, values: Tensor::zeros(shape, dtype, device)? }
        };
        Ok(Self { heads, ops, store })
    }

    /// Copies block `from` over block `to`.
    pub fn copy_block(&mut self, from: u32, to: u32) -> Result<()> {
        match &mut self.store {
            Store::Kernel(blocks) => blocks.copy(from as usize, to as usize),
            Store::Rows { keys, values } => {
                copy_rows(self.ops, keys, values, from as usize * BLOCK, to as usize * BLOCK)?
            }
        }
        Ok(())
    }

    /// Stores the step's keys and values `[tokens, key heads * dim]` and attends from `q` `[tokens, heads * dim]`.
    pub fn attend(&mut self, q: &Tensor, k: &Tensor, v: &Tensor, step: &Step) -> Result<Tensor> {
        if step.tokens() != q.dim(0)? {
            bail!("attention: a step of {} tokens for {} tokens", step.tokens(), q.dim(0)?);
        }
        cached_attention(self, q, k, v, step)
    }
}
