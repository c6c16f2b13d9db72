//! The way through a link of the chains and back, written out on the kernels: for f32 on a CPU.
//!
//! It computes what the graph of [`crate::vlm`]'s layers computes, but a gradient is added where it belongs at once,
//! activations lie in memory that is used again, and what the way back does not need is not computed.

mod block;
mod buffers;
mod floats;
mod head;
mod map;
mod merger;
mod norm;
mod patch_embedding;

pub(super) use block::{Block, BlockKept, Tokens};
pub(super) use buffers::Buffers;
pub(super) use floats::{floats, tensor};
pub(super) use head::Head;
pub(super) use merger::{Merger, MergerKept};
pub(super) use patch_embedding::PatchEmbedding;
