//! Hand-written forward and backward passes of the layers on the CPU kernels, for f32 on a CPU.
//!
//! They compute the same as candle's autograd through the layers of [`crate::vlm`], but gradients
//! are added to their sums directly, activation buffers are reused, and values that the backward
//! pass does not need are not computed.

mod block;
mod buffer_pool;
mod linear_map;
mod merger;
mod norm_and_head;
mod patch_embedding;
mod rms_norm;

pub(super) use block::{Block, BlockActivations, TokenContext};
pub(super) use buffer_pool::BufferPool;
pub(super) use merger::{Merger, MergerActivations};
pub(super) use norm_and_head::NormAndHead;
pub(super) use patch_embedding::PatchEmbedding;
