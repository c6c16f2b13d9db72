//! The arithmetic of the towers on a CPU, on plain slices: vectorised, and with a fixed order of every sum.

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
