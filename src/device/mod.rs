//! Choice of the compute device: the CPU, or an NVIDIA GPU in a build with the feature `cuda`.
//!
//! Each GPU is opened once per process and the handle is cloned, so that all threads issue work on
//! one stream. The index of the GPU does not affect results and is not part of an action's key; its
//! class ([`DeviceClass`]) is.

#[cfg(feature = "cuda")]
pub mod cuda;
mod error;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::error::DeviceError;

/// The requested device: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A GPU where this build and this machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this index; without an index the one that `SLURM_LOCALID` selects, else GPU 0.
    Cuda(Option<usize>),
}

/// The part of a device that affects results: CPU and GPU add floating-point numbers in different
/// orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceClass {
    /// The CPU, with the kernels of this crate.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl DeviceChoice {
    /// Opens the device. Opening it again returns the same device.
    ///
    /// # Errors
    /// A GPU was requested, and this build or machine has none, none with that index, or one that
    /// cannot be used.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) => open_gpu(index),
            Self::Auto if has_gpu(gpu_count())? => open_gpu(None),
            Self::Auto => Ok(Device::Cpu),
        }
    }
}

/// Whether `auto` selects a GPU. A machine without a driver has none. Any other failure to count is
/// an error: falling back to the CPU would make a run a hundred times slower without a warning.
fn has_gpu(count: Result<usize, DeviceError>) -> Result<bool, DeviceError> {
    match count {
        Ok(gpus) => Ok(gpus > 0),
        Err(DeviceError::NoDriver(_) | DeviceError::NotBuilt) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(feature = "cuda")]
use self::cuda::gpu_count;

#[cfg(not(feature = "cuda"))]
fn gpu_count() -> Result<usize, DeviceError> {
    Err(DeviceError::NotBuilt)
}

#[cfg(feature = "cuda")]
fn open_gpu(index: Option<usize>) -> Result<Device, DeviceError> {
    let gpus = gpu_count()?;
    let index = match index {
        _ if gpus == 0 => return Err(DeviceError::NoGpu),
        Some(index) if index >= gpus => return Err(DeviceError::NoSuchGpu { index, gpus }),
        Some(index) => index,
        None => device_for_local_rank(std::env::var("SLURM_LOCALID").ok().as_deref(), gpus)?,
    };
    let device = cuda::open(index)?;
    if let Ok(gpu) = cuda::gpu_info(&device) {
        let _ = OPENED_GPU.set(format!("cuda:{}, {}", gpu.index, gpu.name));
    }
    Ok(device)
}

/// Index and name of the first GPU that this process opened.
static OPENED_GPU: OnceLock<String> = OnceLock::new();

/// Returns the index and the name of the GPU that this process computes on, for people to read;
/// `None` if it has opened none.
pub fn opened_gpu() -> Option<&'static str> {
    OPENED_GPU.get().map(String::as_str)
}

#[cfg(not(feature = "cuda"))]
fn open_gpu(_: Option<usize>) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt)
}

/// Selects the GPU for a process that named none: its rank on the node, if it sees several GPUs.
#[cfg_attr(not(feature = "cuda"), cfg(test))]
fn device_for_local_rank(local_id: Option<&str>, gpus: usize) -> Result<usize, DeviceError> {
    let Some(local_id) = local_id.filter(|_| gpus > 1) else { return Ok(0) };
    match local_id.parse() {
        Ok(index) if index < gpus => Ok(index),
        _ => Err(DeviceError::MoreTasksThanGpus { local_id: local_id.to_owned(), gpus }),
    }
}

impl DeviceClass {
    /// Returns the class of a device.
    pub fn from_device(device: &Device) -> Self {
        if device.is_cpu() { Self::Cpu } else { Self::Cuda }
    }

    /// Returns the dtype used unless the user names one: f32 on a CPU, for which its kernels are
    /// written, and bf16 on a GPU.
    pub fn default_dtype(self) -> DType {
        match self {
            Self::Cpu => DType::F32,
            Self::Cuda => DType::BF16,
        }
    }
}

/// Copies a tensor that was prepared on the CPU to the device of a model. For a GPU, f32 tensors
/// are copied through pinned memory.
///
/// # Errors
/// The device is out of memory, or fails.
pub fn upload(x: &Tensor, device: &Device) -> candle_core::Result<Tensor> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() && x.device().is_cpu() && x.dtype() == DType::F32 && x.elem_count() > 0 {
        let x = x.contiguous()?;
        let (storage, layout) = x.storage_and_layout();
        if let (candle_core::Storage::Cpu(storage), Some((first, end))) = (&*storage, layout.contiguous_offsets()) {
            return cuda::staging::upload(&storage.as_slice::<f32>()?[first..end], x.shape(), device);
        }
    }
    x.to_device(device)
}

/// Starts a new measurement of [`peak_memory`]. Does nothing on a CPU.
#[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
pub fn reset_peak_memory(device: &Device) {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        // If this fails, the peak is that of a longer period.
        let _ = cuda::reset_peak_memory(device);
    }
}

/// Returns the largest number of bytes that tensors occupied at once since [`reset_peak_memory`];
/// `None` on a CPU.
#[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
pub fn peak_memory(device: &Device) -> Option<u64> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return cuda::peak_memory(device).ok();
    }
    None
}

/// Returns the number of bytes that tensors can still take on a GPU; `None` on a CPU.
#[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
pub fn free_memory(device: &Device) -> Option<usize> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return cuda::gpu_info(device).ok().map(|gpu| gpu.free_memory);
    }
    None
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        match (text, text.strip_prefix("cuda:").map(number)) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(None)),
            (_, Some(Some(index))) => Ok(Self::Cuda(Some(index))),
            _ => Err("a device is auto, cpu, cuda, or cuda:N with the index of a GPU".to_owned()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(None) => f.write_str("cuda"),
            Self::Cuda(Some(index)) => write!(f, "cuda:{index}"),
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for DeviceChoice {
    fn schema_name() -> Cow<'static, str> {
        "DeviceChoice".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A device: auto, cpu, cuda, or cuda:N with the index of a GPU.",
            "type": "string",
            "pattern": "^(auto|cpu|cuda(:[0-9]+)?)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_parses_from_its_own_text() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(None)),
            ("cuda:0", DeviceChoice::Cuda(Some(0))),
            ("cuda:13", DeviceChoice::Cuda(Some(13))),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
        for text in ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cpu:0", "cuda:99999999999999999999"] {
            assert!(text.parse::<DeviceChoice>().unwrap_err().contains("auto, cpu, cuda"), "{text}");
        }
    }

    #[test]
    fn a_task_takes_the_gpu_of_its_rank_on_the_node() {
        assert_eq!(device_for_local_rank(None, 4), Ok(0));
        assert_eq!(device_for_local_rank(Some("3"), 4), Ok(3));
        // Slurm made one GPU visible to the task: it takes that one.
        assert_eq!(device_for_local_rank(Some("3"), 1), Ok(0));
        let crowded = device_for_local_rank(Some("4"), 4).unwrap_err().to_string();
        assert!(crowded.contains("SLURM_LOCALID is 4") && crowded.contains("4 GPUs"), "{crowded}");
        assert!(device_for_local_rank(Some("x"), 2).is_err());
    }

    #[test]
    fn auto_falls_back_to_the_cpu_only_without_a_gpu() {
        let no_file = "libcuda.so.1: cannot open shared object file: No such file or directory";
        assert_eq!(has_gpu(Ok(2)), Ok(true));
        assert_eq!(has_gpu(Ok(0)), Ok(false));
        assert_eq!(has_gpu(Err(DeviceError::driver(no_file.to_owned()))), Ok(false));
        let broken = "libnvidia-x.so.1: cannot open shared object file: No such file or directory";
        for problem in [
            DeviceError::driver(broken.to_owned()),
            DeviceError::Library {
                library: "libcublas.so.13".to_owned(),
                problem: "libcublas.so.13: cannot open shared object file: No such file or directory".to_owned(),
                remedy: "put it there",
            },
            DeviceError::Open("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH".to_owned()),
        ] {
            let message = problem.to_string();
            assert!(message.contains("--device cpu"), "{message}");
            assert_eq!(has_gpu(Err(problem.clone())), Err(problem));
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_cpu_build_says_how_to_get_a_gpu_build() {
        assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
        let refused = DeviceChoice::Cuda(None).open().unwrap_err().to_string();
        assert!(refused.contains("just build-cuda") && refused.contains("--device cpu"), "{refused}");
    }
}
