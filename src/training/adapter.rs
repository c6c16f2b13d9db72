//! LoRA adapters in PEFT's format: a folder with `adapter_config.json` and
//! `adapter_model.safetensors`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::lora::{ADAPTER_CONFIG, ADAPTER_FILE, LoraSettings, TARGETS, adapter_names};
use super::trainable::{TrainScope, TrainableModel};
use crate::input_kind::{FolderKind, RecognizedFile, describe_instead_of_model, describe_pointer, hub_id};
use crate::random::Seed;
use crate::vlm::config::Config;
use crate::vlm::conversion::stored_bytes;
use crate::vlm::export::{ExportError, temp_dir_next_to, write_text};
use crate::vlm::named_tensors::NamedTensors;
use crate::vlm::parameters::{ModelPart, parameters};
use crate::vlm::safetensors_header::StoredType;
use crate::vlm::safetensors_writer::{PlannedTensor, write_safetensors};

/// A LoRA adapter, separate from its base model.
#[derive(Debug, Clone)]
pub struct LoraAdapter {
    /// Rank, scale and target layers.
    pub settings: LoraSettings,
    /// A `[rank, in]` and B `[out, rank]` of every target layer in f32, by the names of
    /// [`adapter_names`].
    pub tensors: BTreeMap<String, Tensor>,
}

/// A reason why an adapter cannot be read, written or merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// A file cannot be read.
    #[error("cannot read the adapter's {}: {problem}", file.display())]
    Read {
        /// Path of the file.
        file: PathBuf,
        /// Description of the problem.
        problem: String,
    },
    /// The adapter uses an unsupported feature; merging without it would give wrong weights.
    #[error("{}: {problem}", file.display())]
    Unsupported {
        /// Path of the file.
        file: PathBuf,
        /// The unsupported feature.
        problem: String,
    },
    /// The tensors do not match the model's layers.
    #[error("the adapter does not fit the model: {0}")]
    Misfit(String),
    /// The adapter cannot be written.
    #[error(transparent)]
    Write(#[from] ExportError),
    /// The adapter cannot be merged.
    #[error("the adapter cannot be merged: {0}")]
    Merge(#[from] candle_core::Error),
}

/// The keys of a PEFT configuration that matter here.
#[derive(Debug, Deserialize)]
struct PeftConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Returns the regular expression by which PEFT finds the target layers: only those of the text
/// tower, since the vision tower has layers of the same names.
fn target_modules(targets: &[String]) -> String {
    format!(r".*language_model.*\.({})", targets.join("|"))
}

/// Formats alpha as PEFT does: as an integer if it is one.
fn format_alpha(alpha: f64) -> Value {
    if alpha.fract() == 0.0 && alpha.abs() < 1e15 { json!(alpha as i64) } else { json!(alpha) }
}

impl LoraAdapter {
    /// Writes the folder to a temporary location next to `out`, to be published as `out`. `base` is
    /// the name of the base model.
    ///
    /// # Errors
    /// `out` exists already, or an I/O error.
    pub fn prepare(&self, out: &Path, base: &str) -> Result<TempDir, AdapterError> {
        if out.symlink_metadata().is_ok() {
            return Err(ExportError::Exists(out.to_owned()).into());
        }
        let folder = temp_dir_next_to(out)?;
        let LoraSettings { rank, alpha, targets } = &self.settings;
        let config = json!({
            "base_model_name_or_path": base,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": format_alpha(*alpha),
            "lora_dropout": 0.0,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": rank,
            "target_modules": target_modules(targets),
            "task_type": null,
            "use_dora": false,
            "use_rslora": false,
        });
        write_text(&folder.path().join(ADAPTER_CONFIG), &format!("{config:#}\n"))?;
        let plan = |(name, tensor): (&String, &Tensor)| {
            let shape = tensor.dims().to_vec();
            PlannedTensor { name: name.clone(), dtype: StoredType::F32, shape }
        };
        let planned: Vec<PlannedTensor> = self.tensors.iter().map(plan).collect();
        write_safetensors(&folder.path().join(ADAPTER_FILE), &planned, |planned, out| -> Result<(), ExportError> {
            let wrong = |problem: String| ExportError::Tensor(planned.name.clone(), problem);
            let tensor = self.tensors.get(&planned.name).ok_or_else(|| wrong("is missing".to_owned()))?;
            let values = tensor.to_device(&Device::Cpu).and_then(|t| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1());
            let values: Vec<f32> = values.map_err(|e| wrong(e.to_string()))?;
            Ok(out.write_all(&stored_bytes(&values, StoredType::F32))?)
        })?;
        Ok(folder)
    }

    /// Reads an adapter of a model with this configuration from a folder that PEFT or
    /// [`prepare`](Self::prepare) wrote.
    ///
    /// # Errors
    /// A file is missing or damaged, a tensor belongs to no linear layer of the text tower or has
    /// the wrong shape, or the adapter has features beyond `W + alpha / rank * B A`.
    pub fn read(folder: &Path, config: &Config) -> Result<Self, AdapterError> {
        let file = folder.join(ADAPTER_CONFIG);
        let unreadable = |file: &Path, problem: String| AdapterError::Read { file: file.to_owned(), problem };
        let bytes = fs::read(&file).map_err(|e| unreadable(&file, explain_absence(folder, &e)))?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let peft: PeftConfig = serde_json::from_slice(bytes).map_err(|e| unreadable(&file, e.to_string()))?;
        if let Some(problem) = peft.unsupported() {
            return Err(AdapterError::Unsupported { file, problem });
        }
        let file = folder.join(ADAPTER_FILE);
        let read = candle_core::safetensors::load(&file, &Device::Cpu);
        let read = read.map_err(|e| unreadable(&file, explain_weights(folder, &file).unwrap_or(e.to_string())))?;
        let mut tensors = BTreeMap::new();
        for (name, tensor) in read {
            tensors.insert(name, tensor.to_dtype(DType::F32)?);
        }
        let targets = check(&tensors, peft.r, config)?;
        Ok(Self { settings: LoraSettings { rank: peft.r, alpha: peft.lora_alpha, targets }, tensors })
    }

    /// Returns the model's tensors with the adapter merged, in f32.
    ///
    /// # Errors
    /// The model lacks a tensor.
    pub fn merged(&self, config: &Config, source: &dyn NamedTensors) -> Result<BTreeMap<String, Tensor>, AdapterError> {
        let trained = TrainScope::Lora(self.settings.clone());
        // Layers without an adapter get a new one, which changes nothing (B = 0).
        let weights = TrainableModel::new(config, trained, source, Seed(0), DType::F32, &Device::Cpu)?;
        self.tensors.iter().try_for_each(|(name, tensor)| weights.set(name, tensor))?;
        Ok(weights.merged()?)
    }
}

impl PeftConfig {
    /// Returns a message if the adapter has features beyond `W + alpha / rank * B A`.
    fn unsupported(&self) -> Option<String> {
        if self.peft_type != "LORA" {
            return Some(format!("peft_type is {}; only LORA is supported", self.peft_type));
        }
        if self.r == 0 {
            return Some("r is 0, so there is no adapter".to_owned());
        }
        let empty = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text == "none",
            Value::Array(items) => items.is_empty(),
            Value::Object(items) => items.is_empty(),
            _ => false,
        };
        const UNSUPPORTED: [&str; 12] = [
            "alpha_pattern",
            "bias",
            "fan_in_fan_out",
            "layer_replication",
            "lora_bias",
            "modules_to_save",
            "rank_pattern",
            "trainable_token_indices",
            "use_bdlora",
            "use_dora",
            "use_qalora",
            "use_rslora",
        ];
        // Other initializations (PiSSA, OLoRA, CorDA, LoftQ) change the base weights too.
        if let Some(value) = self.rest.get("init_lora_weights")
            && !(value.is_null() || value.is_boolean() || value.as_str() == Some("gaussian"))
        {
            return Some(format!(
                "init_lora_weights is {value}, which changes the base model's weights; merge the adapter with peft"
            ));
        }
        UNSUPPORTED.iter().find_map(|key| {
            let value = self.rest.get(*key).filter(|value| !empty(value))?;
            Some(format!("{key} is {value}, which is not supported; merge the adapter with peft"))
        })
    }
}

/// Returns why the folder has no `adapter_config.json`.
fn explain_absence(folder: &Path, e: &std::io::Error) -> String {
    match (hub_id(folder), folder.is_dir()) {
        (Some(id), _) => format!(
            "there is no such folder; if {id} is the name of an adapter on the Hugging Face Hub, download it first with \
             `hf download {id} --local-dir DIR`, then pass DIR"
        ),
        (None, true) if FolderKind::of(folder) == Some(FolderKind::Checkpoint) => {
            "the folder is a checkpoint, not an adapter; pass the folder that PEFT wrote".to_owned()
        }
        (None, true) => describe_instead_of_model(folder).unwrap_or_else(|| e.to_string()),
        _ => e.to_string(),
    }
}

/// Returns why the file of an adapter's weights cannot be read, if its kind is the reason.
fn explain_weights(folder: &Path, file: &Path) -> Option<String> {
    let bin = folder.join("adapter_model.bin");
    match RecognizedFile::of(file) {
        None if !file.exists() && bin.exists() => {
            Some("the adapter's weights are a pickle, adapter_model.bin; save it with peft as safetensors".to_owned())
        }
        Some(RecognizedFile::Safetensors) | None => None,
        Some(RecognizedFile::LfsPointer) => fs::read(file).ok().and_then(|bytes| describe_pointer(&bytes)),
        Some(kind) => Some(format!("it is {}", kind.name())),
    }
}

/// Checks names and shapes, and returns the target layers.
fn check(tensors: &BTreeMap<String, Tensor>, rank: usize, config: &Config) -> Result<Vec<String>, AdapterError> {
    let misfit = |problem: String| Err(AdapterError::Misfit(problem));
    let mut left: BTreeSet<&str> = tensors.keys().map(String::as_str).collect();
    let mut targets = BTreeSet::new();
    for parameter in parameters(config).iter().filter(|p| matches!(p.part, ModelPart::TextLayer(_))) {
        let map = parameter.name.strip_suffix(".weight").and_then(|name| name.rsplit('.').next());
        let Some(target) = TARGETS.iter().position(|target| Some(*target) == map) else { continue };
        let names = adapter_names(&parameter.name);
        let shapes = [[rank, parameter.shape[1]], [parameter.shape[0], rank]];
        match names.each_ref().map(|name| tensors.get(name)) {
            [None, None] => continue,
            [Some(_), Some(_)] => {}
            [first, _] => {
                let [present, missing] = if first.is_some() { [0, 1] } else { [1, 0] };
                return misfit(format!("there is {} without {}", names[present], names[missing]));
            }
        }
        targets.insert(target);
        for (name, shape) in names.iter().zip(shapes) {
            let actual = tensors.get(name).map(Tensor::dims).unwrap_or_default();
            if actual != shape {
                return misfit(format!("{name} has the shape {actual:?}, not {shape:?}"));
            }
            left.remove(name.as_str());
        }
    }
    match left.first() {
        Some(name) => misfit(format!("{name} belongs to no linear layer of the text tower")),
        None if targets.is_empty() => misfit("it has no tensors".to_owned()),
        None => Ok(targets.into_iter().map(|target| TARGETS[target].to_owned()).collect()),
    }
}
