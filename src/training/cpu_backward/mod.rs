//! Hand-written forward and backward passes of the layers on the CPU kernels, for f32 on a CPU.
//!
//! They compute what candle's autograd computes through the layers of [`crate::vlm`]. But gradients
//! are added to their sums directly, activations are in buffers that are reused, and what the
//! backward pass does not need is not computed.

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
