//! Which operations serve a tensor: our kernels for the CPU or for a card, or candle's.

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};

/// How many [`Composed`] live.
static COMPOSED: AtomicUsize = AtomicUsize::new(0);

/// While one lives, no kernel of ours serves in this process: the CPU computes by the operations that a card computes by where there is no
/// kernel of ours, and so does a card.
///
/// `visplay doctor` and the tests compare the two. Results differ by rounding, so nothing that is kept may be computed meanwhile.
#[derive(Debug)]
pub struct Composed(());

impl Composed {
    /// From here on.
    pub fn begin() -> Self {
        COMPOSED.fetch_add(1, Ordering::SeqCst);
        Self(())
    }

    /// Whether one lives.
    pub fn lives() -> bool {
        COMPOSED.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Composed {
    fn drop(&mut self) {
        COMPOSED.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether the kernels serve tensors of this type on this device: f32 on a CPU.
pub(crate) fn kernels_serve(device: &Device, dtype: DType) -> bool {
    device.is_cpu() && dtype == DType::F32 && !Composed::lives()
}

/// Whether the kernels serve this tensor.
pub(crate) fn has_kernels(x: &Tensor) -> bool {
    kernels_serve(x.device(), x.dtype())
}

/// Whether our kernels for a card serve: they have no backward pass, and know some number formats.
#[cfg(feature = "cuda")]
pub(super) fn has_card_kernels(operands: &[&Tensor]) -> bool {
    let serves = |x: &&Tensor| x.device().is_cuda() && !x.track_op() && crate::cuda::kernels::know(x.dtype());
    !Composed::lives() && operands.iter().all(serves)
}

/// Whether candle's fused operations serve: they have no backward pass and none for f64.
pub(super) fn has_fused(operands: &[&Tensor]) -> bool {
    operands.iter().all(|x| !x.track_op() && x.dtype() != DType::F64)
}

/// The number format that sums and functions of one are computed in: f32 at least.
pub(crate) fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}
