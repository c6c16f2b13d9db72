//! The tensor operations of both towers.
//!
//! [`Ops`] names the implementation that computes them. [`Ops::Kernels`] takes our kernels where
//! there are any and candle's operations elsewhere: on a CPU in f32 the forward and the backward
//! pass are kernels of [`crate::kernels`]; on a GPU kernels of `device::cuda::kernels` compute some
//! forward passes that need no gradient. [`Ops::Reference`] takes candle's operations everywhere.
//! Every op has a gradient.
//!
//! Activations are `[tokens, width]`: sequences follow one another without padding, and
//! [`Segments`] holds where each begins.

mod attention;
mod attention_reference;
mod cache;
mod cached_reference;
mod elementwise;
mod gather;
mod lazy;
mod linear;
mod norm;
mod path;
mod rotary;
mod row_kernel;
mod segments;
mod storage;

pub(crate) use attention::{attend_rows, attend_rows_backward};
pub use cache::{LayerCache, Step};
pub use linear::{Embedding, Linear};
pub use norm::RmsNorm;
pub use path::Ops;
pub(crate) use path::at_least_f32;
pub use segments::{Segments, SharedPrompt, StepSegment};
pub(crate) use storage::floats;
