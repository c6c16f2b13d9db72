//! Arguments that several commands share: store, pipeline file, device, dtype and threads.

use std::path::PathBuf;

use candle_core::{DType, Device};
use clap::{Args, ValueEnum};

use crate::cli::{CommandError, Result};
use crate::device::{DeviceChoice, DeviceClass};
use crate::evolution::pipeline::Pipeline;
use crate::reward::{DiversityScope, QuestionerSettings};
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
    pub fn open(&self) -> Result<Store> {
        Ok(Store::open(&self.store)?)
    }

    /// Opens the store, or creates it in a folder that is empty or missing.
    pub fn open_or_create(&self) -> Result<Store> {
        Ok(Store::open_or_create(&self.store)?)
    }
}

/// A cache of objects on this node's own disk.
#[derive(Debug, Args)]
pub struct NodeCacheArgs {
    /// Folder on this node's own disk for copies of objects, such as model weights, which all
    /// processes of the node then read from the shared file system only once.
    #[arg(long = "cache", env = "VISPLAY_CACHE", value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Size of this cache; the objects that were not used for the longest time are removed.
    #[arg(long, value_name = "BYTES", default_value = "100G", value_parser = parse_bytes)]
    cache_bytes: u64,
}

impl NodeCacheArgs {
    /// Returns the store with the cache, if one is named.
    pub fn apply(&self, store: Store) -> Result<Store> {
        match &self.folder {
            Some(folder) => Ok(store.with_node_cache(folder, self.cache_bytes)?),
            None => Ok(store),
        }
    }
}

/// Parses a number of bytes, such as `1000000`, `500M`, `20G` or `1T` (powers of 1024).
fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.strip_suffix(['K', 'M', 'G', 'T']) {
        Some(number) => (number, 10 * (1 + "KMGT".find(&text[number.len()..]).unwrap_or(0))),
        None => (text, 0),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| format!("`{text}` is not a size; write one such as 500M, 20G or 1T"))
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
    pub fn load(&self) -> Result<Pipeline> {
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
    pub fn open(&self) -> Result<Device> {
        Ok(self.device.unwrap_or_default().open()?)
    }
}

/// The device and the dtype that models run in.
#[derive(Debug, Args)]
pub struct ComputeArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Dtype to compute in [default: f32 on the CPU, bf16 on a GPU].
    #[arg(long, alias = "type", value_enum, value_name = "DTYPE")]
    dtype: Option<Dtype>,
}

impl ComputeArgs {
    /// Opens the device, and returns it with the dtype, by default the usual one of the device.
    pub fn open(&self) -> Result<(Device, DType)> {
        let device = self.device.open()?;
        let dtype = self.dtype.map_or(DeviceClass::from_device(&device).default_dtype(), Dtype::tensor);
        Ok((device, dtype))
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
    pub fn start(&self) -> Result<()> {
        let threads = self.threads.map_or(0, usize::from);
        let started = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        started.map_err(|e| CommandError::failed(format!("cannot start the worker threads: {e}")))
    }
}

/// Parses a scope of the diversity penalty, `group` or `step`.
pub fn parse_scope(name: &str) -> Result<DiversityScope, String> {
    serde_json::from_value(name.into()).map_err(|_| "expected group or step".to_owned())
}

/// Replaces the weight and the scope of the diversity penalty by those of the command line.
pub fn set_diversity(
    settings: &mut QuestionerSettings,
    lambda: Option<f64>,
    scope: Option<DiversityScope>,
) -> Result<()> {
    settings.scope = scope.unwrap_or(settings.scope);
    settings.lambda = lambda.unwrap_or(settings.lambda);
    match settings.lambda.is_finite() && settings.lambda >= 0.0 {
        true => Ok(()),
        false => Err(CommandError::usage(format!("--lambda is {}; it must be 0 or greater", settings.lambda))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, bytes) in
            [("0", 0), ("1000", 1000), ("2K", 2048), ("3M", 3 << 20), ("20G", 20 << 30), ("1T", 1 << 40)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "1GB", "99999999999999T", "\u{e9}"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
