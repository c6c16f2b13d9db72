//! The operations of both towers on tensors: our kernels on a CPU in f32, candle's operations everywhere else, and on a card some
//! kernels of ours beside them.
//!
//! Every operation can be differentiated. On the CPU both passes are kernels of [`crate::kernels`]; elsewhere
//! (CUDA, other number formats, or while a [`Composed`] lives) it is composed of candle's differentiable operations, and
//! where no gradient is asked for of its fused ones, or of our own kernels for a card (`cuda::kernels`).
//!
//! Activations are `[tokens, width]`: sequences follow one another without padding, and [`Segments`] says where each begins.

mod attention;
mod attention_composed;
mod cached;
mod cached_composed;
mod choice;
mod derived;
mod gather;
mod gelu;
mod linear;
mod norm;
mod residual;
mod rotary;
mod segments;
mod storage;
mod swiglu;

pub use attention::attention;
pub(crate) use attention::{attend_rows, attend_rows_backward};
pub(crate) use cached::{Places, cached_attention, copy_rows};
pub use choice::Composed;
pub(crate) use choice::{has_kernels, kernels_serve, wide};
pub use gather::{gather, scatter};
pub use gelu::gelu;
pub use linear::{Embedding, Linear};
pub use norm::RmsNorm;
pub use residual::residual;
pub use rotary::rotate;
pub use segments::{Segments, Shared};
pub use swiglu::swiglu;
