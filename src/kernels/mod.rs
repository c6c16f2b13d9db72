//! Vectorized CPU kernels of the model's layers on slices of f32, forward and backward.
//!
//! The kernels are batch-invariant: every output is one chain of additions in a fixed order,
//! whatever the number of rows, the tile, or the number of threads. So a sample does not depend on
//! the batch that it was drawn in, and training computes the same log-probabilities as sampling, to
//! the last bit. General BLAS libraries choose the order of a sum by shape and thread count, so
//! they cannot be used here.

pub mod aligned;
pub mod attention;
pub mod attention_backward;
mod exponential;
pub mod gelu;
pub mod gemm;
pub mod heap;
pub mod packed;
pub mod rowwise;
pub mod rowwise_backward;
mod tile;
