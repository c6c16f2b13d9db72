//! Custom ops of candle that our CPU kernels compute, with their gradients.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::storage::{Rows, tensor, with_rows};

/// An op on the rows of `N` tensors, each a matrix or, as one row, a vector.
pub(super) trait RowKernel<const N: usize>: Send + Sync {
    /// Name of the op in messages.
    const NAME: &'static str;

    /// Returns the elements of the result and its shape, `[count, width]`.
    fn forward(&self, inputs: [Rows<'_>; N]) -> Result<(Vec<f32>, (usize, usize))>;

    /// Returns the gradients of the inputs, at least of those that are `wanted`, from the gradient
    /// of the result.
    fn backward(&self, _: [Rows<'_>; N], _gradient: Rows<'_>, _wanted: [bool; N]) -> Result<[Option<Vec<f32>>; N]> {
        bail!("{}: there is no backward pass", Self::NAME)
    }
}

/// The custom op that a kernel computes.
pub(super) struct CpuOp<K>(pub(super) K);

/// Implements candle's trait for ops on this number of tensors.
macro_rules! custom_op {
    ($op:ident, $count:literal, $gradients:ty, $($x:ident $storage:ident $layout:ident),*) => {
        impl<K: RowKernel<$count>> $op for CpuOp<K> {
            fn name(&self) -> &'static str {
                K::NAME
            }

            fn cpu_fwd(&self, $($storage: &CpuStorage, $layout: &Layout),*) -> Result<(CpuStorage, Shape)> {
                let (out, shape) = self.0.forward([$(Rows::new(K::NAME, $storage, $layout)?),*])?;
                Ok((CpuStorage::F32(out), shape.into()))
            }

            fn bwd(&self, $($x: &Tensor,)* _: &Tensor, gradient: &Tensor) -> Result<$gradients> {
                $(let $storage = $x.storage_and_layout();)*
                let inputs = [$(Rows::from_tensor(K::NAME, &$storage)?),*];
                let [$($layout),*] = with_rows(K::NAME, &gradient.contiguous()?, |gradient| {
                    self.0.backward(inputs, gradient, [$($x.track_op()),*])
                })?;
                $(let $layout = $layout.map(|elements| tensor(elements, $x.shape())).transpose()?;)*
                Ok(($($layout),*))
            }
        }
    };
}

type Gradient = Option<Tensor>;

custom_op!(CustomOp1, 1, Gradient, x storage layout);
custom_op!(CustomOp2, 2, (Gradient, Gradient), x s1 l1, y s2 l2);
custom_op!(CustomOp3, 3, (Gradient, Gradient, Gradient), x s1 l1, y s2 l2, z s3 l3);
