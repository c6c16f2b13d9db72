//! The way through a layer of the towers and back, written out on the kernels: for f32 on a CPU.
//!
//! It computes what the graph of [`crate::vlm`]'s layers computes, but a gradient is added where it belongs at once,
//! activations lie in memory that is used again, and what the way back does not need is not computed.

mod block;
mod buffer_pool;
mod floats;
mod linear_map;
mod merger;
mod norm_and_head;
mod patch_embedding;
mod rms_norm;

pub(super) use block::{Block, BlockActivations, TokenContext};
pub(super) use buffer_pool::BufferPool;
pub(super) use floats::{floats, tensor};
pub(super) use merger::{Merger, MergerActivations};
pub(super) use norm_and_head::NormAndHead;
pub(super) use patch_embedding::PatchEmbedding;
