//! The operations of both towers on tensors: our kernels on a CPU in f32, candle's operations everywhere else.
//!
//! Every operation can be differentiated. On the CPU the forward pass is a kernel of [`crate::kernels`]; elsewhere
//! (CUDA, or f64 as the reference in tests) it is composed of candle's differentiable operations, and where no
//! gradient is asked for of its fused ones. Activations are `[tokens, width]`: sequences follow one another without
//! padding, and [`Segments`] says where each begins.

mod attention;
mod cached;
mod linear;
mod norm;
mod rotary;
mod storage;
mod swiglu;

pub use attention::{Segments, attention};
pub(crate) use cached::cached_attention;
pub use linear::{Embedding, Linear};
pub use norm::RmsNorm;
pub use rotary::rotate;
pub use swiglu::swiglu;

use candle_core::{DType, Result, Tensor, Var};

/// Whether the kernels serve this tensor.
fn has_kernels(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The gradients of `inputs` through a composed function, given the gradient of its result.
///
/// candle's `CustomOp` hands over plain tensors in `bwd`, so the function is run once more on variables.
fn gradients_through(
    inputs: &[&Tensor],
    gradient: &Tensor,
    compose: impl FnOnce(&[Var]) -> Result<Tensor>,
) -> Result<Vec<Option<Tensor>>> {
    let inputs = inputs.iter().map(|t| Var::from_tensor(&t.detach())).collect::<Result<Vec<_>>>()?;
    let seeded = (compose(&inputs)? * gradient.detach())?.sum_all()?;
    let mut gradients = seeded.backward()?;
    Ok(inputs.iter().map(|input| gradients.remove(input)).collect())
}
