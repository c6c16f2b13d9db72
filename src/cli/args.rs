//! Arguments that several commands share: store, pipeline file, device, dtype and threads.

use std::path::PathBuf;

use candle_core::{DType, Device};
use clap::{Args, ValueEnum};

use super::error::CommandError;
use crate::device::{DeviceChoice, DeviceClass};
use crate::evolution::pipeline::Pipeline;
use crate::reward::DiversityScope;
use crate::store::{Store, is_name};
use crate::vlm::safetensors_header::StoredType;

/// The location of the store.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The store's folder.
    #[arg(long, env = "VISPLAY_STORE", default_value = "data/store", value_name = "DIR")]
    pub store: PathBuf,
}

impl StoreArgs {
    /// Opens the store, which must exist.
    pub fn open(&self) -> Result<Store, CommandError> {
        Ok(Store::open(&self.store)?)
    }
}

/// The pipeline file and the evolution's name.
#[derive(Debug, Args)]
pub struct PipelineArgs {
    /// The pipeline file [default: pipelines/nano.toml].
    #[arg(long, value_name = "FILE")]
    pub pipeline: Option<PathBuf>,
    /// Name of the evolution, overriding the pipeline file.
    #[arg(long, value_name = "NAME")]
    pub evolution: Option<String>,
}

impl PipelineArgs {
    /// Reads the pipeline file; `--evolution` overrides its evolution.
    pub fn load(&self) -> Result<Pipeline, CommandError> {
        let mut pipeline = Pipeline::load(self.pipeline.as_deref())?;
        if let Some(name) = &self.evolution {
            if !is_name(name) {
                let message = format!("--evolution: `{name}` is not a valid evolution name");
                return Err(CommandError::usage(message).with_hint("use letters, digits, `.`, `_` and `-`"));
            }
            pipeline.evolution.clone_from(name);
        }
        Ok(pipeline)
    }
}

/// The device that models run on.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// Device to run on: auto, cpu, cuda or cuda:N [default: the pipeline file's, else a GPU if
    /// this build and machine have one].
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
}

impl DeviceArgs {
    /// Opens the device.
    pub fn open(&self) -> Result<Device, CommandError> {
        Ok(self.device.unwrap_or_default().open()?)
    }
}

/// The dtype that models run in.
#[derive(Debug, Args)]
pub struct DtypeArgs {
    /// Dtype to compute in [default: f32 on the CPU, bf16 on a GPU].
    #[arg(long, alias = "type", value_enum, value_name = "DTYPE")]
    dtype: Option<Dtype>,
}

impl DtypeArgs {
    /// Returns the dtype, by default the usual one of the device.
    pub fn on(&self, device: &Device) -> DType {
        self.dtype.map_or(DeviceClass::from_device(device).default_dtype(), Dtype::tensor)
    }
}

/// A dtype that a model can be computed or stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 32-bit float, the default on a CPU.
    F32,
    /// 16-bit brain float, the default on a GPU.
    Bf16,
    /// 16-bit IEEE half-precision float.
    F16,
}

impl Dtype {
    /// Returns the dtype of candle's tensors.
    pub fn tensor(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }

    /// Returns the dtype of tensors in a safetensors file.
    pub fn stored(self) -> StoredType {
        match self {
            Self::F32 => StoredType::F32,
            Self::Bf16 => StoredType::BF16,
            Self::F16 => StoredType::F16,
        }
    }
}

/// The number of worker threads.
#[derive(Debug, Args)]
pub struct ThreadArgs {
    /// Number of worker threads [default: one per core]. Does not change results.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

impl ThreadArgs {
    /// Starts the worker threads; call it once.
    pub fn start(&self) -> Result<(), CommandError> {
        let threads = self.threads.map_or(0, usize::from);
        let started = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        started.map_err(|e| CommandError::failed(format!("cannot start the worker threads: {e}")))
    }
}

/// Parses a scope of the diversity penalty, `group` or `step`.
pub fn parse_scope(name: &str) -> Result<DiversityScope, String> {
    serde_json::from_value(name.into()).map_err(|_| "expected group or step".to_owned())
}
