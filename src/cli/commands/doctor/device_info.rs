//! A description of the device that models run on, for `visplay doctor`.

use candle_core::Device;
use serde::Serialize;

#[cfg(feature = "cuda")]
use crate::cli::CommandError;
use crate::cli::{Result, format};

/// A device and its properties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "class", rename_all = "lowercase")]
pub enum DeviceInfo {
    /// The CPU.
    Cpu {
        /// Name of the CPU.
        name: String,
        /// Number of cores.
        cores: usize,
    },
    /// An NVIDIA GPU.
    #[cfg(feature = "cuda")]
    Cuda(crate::device::cuda::GpuInfo),
}

impl DeviceInfo {
    /// Describes an opened device.
    pub fn of(device: Device) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if !device.is_cpu() {
            let gpu = crate::device::cuda::gpu_info(&device);
            return Ok(Self::Cuda(gpu.map_err(CommandError::from_failure)?));
        }
        debug_assert!(device.is_cpu(), "there is no other device in this build");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self::Cpu { name: cpu_name().unwrap_or_else(|| "unknown".to_owned()), cores })
    }

    /// Returns a description on one line.
    pub fn describe(&self) -> String {
        match self {
            Self::Cpu { .. } => "cpu, in f32".to_owned(),
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => format!(
                "cuda:{}, {}, compute capability {}, {} of {} free, driver for CUDA {}",
                gpu.index,
                gpu.name,
                gpu.compute_capability,
                format::bytes(gpu.free_memory as u64),
                format::bytes(gpu.memory as u64),
                gpu.driver_cuda
            ),
        }
    }

    /// Returns the device's name for use in a file name.
    pub fn slug(&self) -> String {
        let name = match self {
            Self::Cpu { .. } => "cpu",
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => &gpu.name,
        };
        format::slug(name)
    }
}

fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
