//! The compute identity: those facts about a model's computation (dtype, device class, image size)
//! that its results depend on.

use candle_core::{DType, Device};
use serde::Serialize;

use crate::device::DeviceClass;

/// Limits on the memory and the concurrency of sampling. In f32 on the CPU results do not depend on
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SamplingLimits {
    /// Memory of the KV cache, in bytes.
    pub cache_bytes: u64,
    /// Maximum number of samples that run at once.
    pub max_sequences: u32,
}

/// The parameter `compute` of every action that runs a model. The CPU is left out of it, and so are
/// the sampling limits wherever results do not depend on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComputeIdentity {
    dtype: &'static str,
    min_pixels: Option<u64>,
    max_pixels: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<DeviceClass>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    limits: Option<SamplingLimits>,
}

impl ComputeIdentity {
    /// Describes a model that computes in `dtype` on `device`. `min_pixels` and `max_pixels` are
    /// the image limits of the pipeline file; `None` without a pipeline file.
    pub fn new(dtype: DType, device: &Device, min_pixels: Option<u64>, max_pixels: Option<u64>) -> Self {
        let device = Some(DeviceClass::from_device(device)).filter(|class| *class == DeviceClass::Cuda);
        Self { dtype: dtype.as_str(), min_pixels, max_pixels, device, limits: None }
    }

    /// Whether results depend on the sampling limits.
    ///
    /// A matrix product of candle chooses the order of its sums by its shape, so a sample's bits
    /// depend on the samples that share its batch, and that batch depends on the limits. Our
    /// kernels for f32 on the CPU are batch-invariant.
    pub fn limits_affect_results(&self) -> bool {
        self.dtype != DType::F32.as_str() || self.device.is_some()
    }

    /// Returns the identity of sampling under `limits`.
    pub fn with_limits(&self, limits: SamplingLimits) -> Self {
        Self { limits: self.limits_affect_results().then_some(limits), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_are_part_of_the_identity_where_results_depend_on_them() {
        let limits = [(1 << 20, 8), (1 << 20, 9), (1 << 21, 8)]
            .map(|(cache_bytes, max_sequences)| SamplingLimits { cache_bytes, max_sequences });
        let identities = |compute: ComputeIdentity| limits.map(|limits| json!(compute.with_limits(limits)));
        let identity = |dtype| ComputeIdentity::new(dtype, &Device::Cpu, Some(0), None);
        // Rounds in existing stores must keep their keys.
        let on_cpu = json!({"dtype": "f32", "max_pixels": null, "min_pixels": 0});
        assert_eq!(identities(identity(DType::F32)), [(); 3].map(|()| on_cpu.clone()));
        let on_gpu = ComputeIdentity { device: Some(DeviceClass::Cuda), ..identity(DType::F32) };
        assert_eq!(json!(on_gpu), json!({"device": "cuda", "dtype": "f32", "max_pixels": null, "min_pixels": 0}));
        for compute in [identity(DType::BF16), identity(DType::F16), on_gpu] {
            let [a, b, c] = identities(compute);
            assert!(a != b && b != c && a != c, "{a}, {b}, {c}");
            assert_eq!((&a["max_sequences"], &c["cache_bytes"]), (&json!(8), &json!(1 << 21)));
        }
    }
}
