//! The two implementations of the ops: our kernels and candle's operations.

use candle_core::{DType, Device, Tensor};

/// The implementation that computes a model's ops.
///
/// The source of a model's tensors names it
/// ([`NamedTensors::ops`](crate::vlm::named_tensors::NamedTensors::ops)), and every layer, cache
/// and gradient built from it uses it. Results of the two differ by rounding only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ops {
    /// Our kernels where there is one for the device and dtype, candle's operations elsewhere.
    #[default]
    Kernels,
    /// candle's operations on every device: the reference that our kernels are compared with.
    Reference,
}

impl Ops {
    /// Whether our CPU kernels compute tensors of this dtype on this device: f32 on a CPU.
    pub fn uses_cpu_kernels(self, device: &Device, dtype: DType) -> bool {
        self == Self::Kernels && device.is_cpu() && dtype == DType::F32
    }

    /// Whether our CPU kernels compute this tensor.
    pub(crate) fn uses_cpu_kernels_for(self, x: &Tensor) -> bool {
        self.uses_cpu_kernels(x.device(), x.dtype())
    }

    /// Whether our GPU kernels compute these: they have no backward pass and only some dtypes.
    #[cfg(feature = "cuda")]
    pub(super) fn uses_gpu_kernels_for(self, operands: &[&Tensor]) -> bool {
        let is_supported =
            |x: &&Tensor| x.device().is_cuda() && !x.track_op() && crate::device::cuda::kernels::supports(x.dtype());
        self == Self::Kernels && operands.iter().all(is_supported)
    }
}

/// Whether candle's fused operations compute these: they have no backward pass and no f64.
pub(super) fn has_fused(operands: &[&Tensor]) -> bool {
    operands.iter().all(|x| !x.track_op() && x.dtype() != DType::F64)
}

/// Returns the dtype in which sums over numbers of `dtype`, and functions of one number, are
/// computed: f32 at least.
pub(crate) fn at_least_f32(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}
