//! The device that models compute on, as `visplay doctor` describes it.

use candle_core::Device;
use serde::Serialize;

use crate::cli::error::CommandError;
use crate::cli::output::format;

/// A device in figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "class", rename_all = "lowercase")]
pub enum Machine {
    /// The CPU.
    Cpu {
        /// Its name.
        name: String,
        /// Its cores.
        cores: usize,
    },
    /// A card.
    #[cfg(feature = "cuda")]
    Cuda(crate::device::cuda::GpuInfo),
}

impl Machine {
    /// Describes an opened device.
    pub fn of(device: Device) -> Result<Self, CommandError> {
        #[cfg(feature = "cuda")]
        if !device.is_cpu() {
            let card = crate::device::cuda::gpu_info(&device);
            return Ok(Self::Cuda(card.map_err(|e| CommandError::failed(e.to_string()))?));
        }
        debug_assert!(device.is_cpu(), "there is no other device in this build");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self::Cpu { name: cpu_name().unwrap_or_else(|| "unknown".to_owned()), cores })
    }

    /// One line for a person.
    pub fn in_words(&self) -> String {
        match self {
            Self::Cpu { .. } => "cpu, in f32".to_owned(),
            #[cfg(feature = "cuda")]
            Self::Cuda(card) => format!(
                "cuda:{}, {}, compute capability {}, {} of {} free, driver for CUDA {}",
                card.index,
                card.name,
                card.compute_capability,
                format::bytes(card.free_memory as u64),
                format::bytes(card.memory as u64),
                card.driver_cuda
            ),
        }
    }

    /// A name that can be part of a file's.
    pub fn slug(&self) -> String {
        let name = match self {
            Self::Cpu { .. } => "cpu",
            #[cfg(feature = "cuda")]
            Self::Cuda(card) => &card.name,
        };
        format::slug(name)
    }
}

fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
