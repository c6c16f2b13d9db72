//! The operations of both towers on tensors: our kernels on a CPU in f32, candle's operations everywhere else, and on a card some
//! kernels of ours beside them.
//!
//! Every operation can be differentiated. On the CPU both passes are kernels of [`crate::kernels`]; elsewhere
//! (CUDA, other number formats, or while a [`Composed`] lives) it is composed of candle's differentiable operations, and
//! where no gradient is asked for of its fused ones, or of our own kernels for a card (`device::cuda::kernels`).
//!
//! Activations are `[tokens, width]`: sequences follow one another without padding, and [`Segments`] says where each begins.

mod attention;
mod attention_reference;
mod cache;
mod cached_reference;
mod gather;
mod gelu;
mod lazy;
mod linear;
mod norm;
mod path;
mod residual;
mod rotary;
mod segments;
mod storage;
mod swiglu;

pub(crate) use attention::{attend_rows, attend_rows_backward};
pub use cache::{LayerCache, Step};
pub use linear::{Embedding, Linear};
pub use norm::RmsNorm;
pub use path::Ops;
pub(crate) use path::wide;
pub use segments::{Segments, SharedPrompt, StepSegment};
