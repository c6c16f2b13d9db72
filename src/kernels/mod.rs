//! The arithmetic of the towers on a CPU, on plain slices: vectorised, and with a fixed order of every sum.

pub mod aligned;
pub mod attention;
mod exponential;
pub mod gemm;
pub mod packed;
pub mod rowwise;
mod tile;
