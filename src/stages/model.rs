//! Models in the store: a file for each part of the weights, so that what did not change is stored once, and the files beside
//! them as they were. A model's id is a digest over all of it.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::{Runner, ShardOutput, Stage, StageError};
use crate::device::DeviceClass;
use crate::ids::{Digest, ModelId};
use crate::imaging::{MAX_RESIZED_PIXELS, PixelBudget};
use crate::store::{Action, ActionKey, Counts, Input, ObjectId, ObjectKind, Output, StageResult, Store, StoreError};
use crate::vlm::checkpoint::{GENERATION_FILE, PROCESSOR_FILE, check_patches, stop_tokens_of};
use crate::vlm::config::{CONFIG_FILE, Config};
use crate::vlm::export::ExportError;
use crate::vlm::image_processor::{ImageProcessor, PROCESSORS_FILE, ProcessorText};
use crate::vlm::model::Model;
use crate::vlm::named_tensors::{NamedTensors, Purpose};
use crate::vlm::ops::Ops;
use crate::vlm::parameters::{ModelPart, parameters};
use crate::vlm::safetensors_header::StoredType;
use crate::vlm::safetensors_writer::{PlannedTensor, write_tensors};
use crate::vlm::tensor_source::TensorSource;
use crate::vlm::tokenizer::{TOKENIZER_FILE, Tokenizer};
use crate::vlm::weights::Weights;

/// The part that a file of weights plays in a result.
pub const WEIGHTS: &str = "weights";
/// The files beside the weights that answering needs, in the order in which they enter the model's id.
const SIDE_FILES: [&str; 4] = [CONFIG_FILE, TOKENIZER_FILE, PROCESSOR_FILE, GENERATION_FILE];

/// A model in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredModel {
    /// The digest of its weights and of the files beside them.
    pub id: ModelId,
    side: BTreeMap<&'static str, Output>,
    weights: Vec<Output>,
}

impl StoredModel {
    /// The model among the outputs of a result.
    ///
    /// # Errors
    /// A part is missing.
    pub fn from_result(result: &StageResult) -> Result<Self, StageError> {
        let lacks = |what: &str| StageError::Conflict(format!("the result {} holds no {what}", result.action));
        let mut side = BTreeMap::new();
        for name in SIDE_FILES {
            if let Some(output) = result.outputs_of(name).next() {
                side.insert(name, output.clone());
            } else if name != GENERATION_FILE {
                return Err(lacks(name));
            }
        }
        let weights: Vec<Output> = result.outputs_of(WEIGHTS).cloned().collect();
        if weights.is_empty() { Err(lacks(WEIGHTS)) } else { Ok(Self::new(side, weights)) }
    }

    fn new(side: BTreeMap<&'static str, Output>, weights: Vec<Output>) -> Self {
        let files = SIDE_FILES.iter().filter_map(|name| side.get(name)).chain(&weights);
        let parts: Vec<&[u8]> = files.map(|output| output.object.digest.as_bytes().as_slice()).collect();
        Self { id: ModelId(Digest::derive("visplay 2026 model id", &parts)), side, weights }
    }

    /// The same model with other weights.
    #[must_use]
    pub fn with_weights(&self, weights: Vec<Output>) -> Self {
        Self::new(self.side.clone(), weights)
    }

    /// Its objects, as the outputs of a result.
    pub fn outputs(&self) -> Vec<Output> {
        self.side.values().chain(&self.weights).cloned().collect()
    }

    /// The files beside the weights, ready for use. `pixels` replaces the image limits of the checkpoint.
    ///
    /// # Errors
    /// An object is missing, damaged or not what it must be.
    pub fn assets(&self, store: &Store, pixels: Option<PixelBudget>) -> Result<ModelAssets, StageError> {
        let read = |name: &str| match self.side.get(name) {
            Some(output) => Ok(Some(store.read_object(output.object)?)),
            None => Ok::<_, StageError>(None),
        };
        let text =
            |name: &str| Ok::<_, StageError>(String::from_utf8_lossy(&read(name)?.unwrap_or_default()).into_owned());
        let bad = |e: &dyn std::error::Error| StageError::Model(e.to_string());
        let config = Config::parse(Path::new(CONFIG_FILE), &text(CONFIG_FILE)?).map_err(|e| bad(&e))?;
        let tokenizer = read(TOKENIZER_FILE)?.unwrap_or_default();
        let tokenizer = Tokenizer::from_bytes(Path::new(TOKENIZER_FILE), &tokenizer).map_err(|e| bad(&e))?;
        let processor = ImageProcessor::from_json(&text(PROCESSOR_FILE)?, Path::new(PROCESSOR_FILE));
        let mut processor = processor.map_err(|e| bad(&e))?;
        // An earlier program may have taken the model in.
        check_patches(Path::new(PROCESSOR_FILE), &processor, &config).map_err(|e| bad(&e))?;
        if let Some(budget) = pixels {
            if budget.min_pixels > MAX_RESIZED_PIXELS {
                let problem =
                    format!("{} is above {MAX_RESIZED_PIXELS}, the most that is supported", budget.min_pixels);
                return Err(StageError::Parameter { key: "model.min_pixels", problem });
            }
            processor = processor.with_budget(budget);
        }
        let generation: Value = match read(GENERATION_FILE)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| bad(&e))?,
            None => Value::Null,
        };
        let stop_tokens = stop_tokens_of(&generation, &tokenizer);
        Ok(ModelAssets { config, tokenizer, processor, stop_tokens })
    }

    /// The tensors, as they are stored.
    ///
    /// # Errors
    /// An object is missing or damaged.
    pub fn tensors(&self, store: &Store) -> Result<HashMap<String, Tensor>, StageError> {
        let mut tensors = HashMap::new();
        for output in &self.weights {
            let bytes = store.read_object(output.object)?;
            let read = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu);
            tensors.extend(read.map_err(|e| StageError::Model(format!("{}: {e}", output.object)))?);
        }
        Ok(tensors)
    }
}

/// What goes with the weights.
#[derive(Debug)]
pub struct ModelAssets {
    /// What the model is.
    pub config: Config,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// Images to patches.
    pub processor: ImageProcessor,
    /// The tokens that end an answer.
    pub stop_tokens: Vec<u32>,
}

/// A model that can answer.
#[derive(Debug)]
pub struct LoadedModel {
    /// The model.
    pub model: Model,
    /// What goes with it.
    pub assets: Arc<ModelAssets>,
}

impl LoadedModel {
    /// A model for sampling from stored tensors, converted to `dtype` and brought to `device` one after the other.
    ///
    /// # Errors
    /// The tensors are not those of the configuration.
    pub fn from_stored(
        assets: Arc<ModelAssets>,
        tensors: &HashMap<String, Tensor>,
        dtype: DType,
        device: &Device,
        ops: Ops,
    ) -> Result<Self, StageError> {
        Self::new(assets, &TensorsOnDevice { tensors, dtype, device, ops })
    }

    /// A model for sampling from tensors that are where, and as, it computes.
    ///
    /// # Errors
    /// The tensors are not those of the configuration.
    pub fn new(assets: Arc<ModelAssets>, source: &dyn NamedTensors) -> Result<Self, StageError> {
        let model = Model::new(assets.config.clone(), source, Purpose::Sampling);
        Ok(Self { model: model.map_err(|e| StageError::Model(e.to_string()))?, assets })
    }
}

/// How a model computes, as actions name it: what its results depend on beside its weights. The CPU is not named.
pub fn compute(dtype: DType, device: &Device, min_pixels: Value, max_pixels: Value) -> Value {
    let mut compute = json!({"dtype": dtype.as_str(), "min_pixels": min_pixels, "max_pixels": max_pixels});
    if let (class @ DeviceClass::Cuda, Some(compute)) = (DeviceClass::of(device), compute.as_object_mut()) {
        compute.insert("device".to_owned(), json!(class));
    }
    compute
}

/// Tensors converted and placed as they are asked for.
pub(super) struct TensorsOnDevice<'a> {
    pub(super) tensors: &'a HashMap<String, Tensor>,
    pub(super) dtype: DType,
    pub(super) device: &'a Device,
    pub(super) ops: Ops,
}

impl NamedTensors for TensorsOnDevice<'_> {
    fn tensor(&self, name: &str) -> candle_core::Result<Tensor> {
        // Converted where it is computed with: a card is faster at it.
        self.tensors.tensor(name)?.to_device(self.device)?.to_dtype(self.dtype)
    }

    fn ops(&self) -> Ops {
        self.ops
    }
}

/// A model that is loaded when it is first needed: a stage that has all its results needs none.
pub struct ModelHandle<'a> {
    /// The id that goes into actions and rows.
    pub id: ModelId,
    load: Box<dyn Fn() -> Result<LoadedModel, StageError> + Send + Sync + 'a>,
    loaded: OnceLock<LoadedModel>,
    loading: Mutex<()>,
}

impl<'a> ModelHandle<'a> {
    /// A model that `load` gives.
    pub fn new(id: ModelId, load: impl Fn() -> Result<LoadedModel, StageError> + Send + Sync + 'a) -> Self {
        Self { id, load: Box::new(load), loaded: OnceLock::new(), loading: Mutex::new(()) }
    }

    /// The model.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub fn get(&self) -> Result<&LoadedModel, StageError> {
        let _one_loader = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if self.loaded.get().is_none() {
            // Only the holder of the lock sets it.
            let _ = self.loaded.set((self.load)()?);
        }
        self.loaded.get().ok_or_else(|| StageError::Model("it was not loaded".into()))
    }
}

/// Stores weights, a file for each part of the model. The same tensors give the same objects.
///
/// # Errors
/// A tensor is missing or has another shape, or the store cannot be written to.
pub fn store_weights(store: &Store, config: &Config, source: &dyn TensorSource) -> Result<Vec<Output>, StageError> {
    let mut parts: Vec<(ModelPart, Vec<_>)> = Vec::new();
    for parameter in parameters(config) {
        match parts.last_mut().filter(|(part, _)| *part == parameter.part) {
            Some((_, of_part)) => of_part.push(parameter),
            None => parts.push((parameter.part, vec![parameter])),
        }
    }
    let bad = |e: ExportError| unwritten(store, e);
    let mut outputs = Vec::with_capacity(parts.len());
    for (_, of_part) in &parts {
        let mut planned = Vec::with_capacity(of_part.len());
        for parameter in of_part {
            let dtype: StoredType = source.stored_type(parameter).map_err(bad)?;
            planned.push(PlannedTensor { name: parameter.name.clone(), dtype, shape: parameter.shape.clone() });
        }
        let mut staged = store.stage()?;
        write_tensors(&mut staged, &planned, |tensor, out: &mut dyn Write| {
            let parameter = of_part.iter().find(|parameter| parameter.name == tensor.name);
            let lost = || ExportError::Tensor(tensor.name.clone(), "is not part of the model".to_owned());
            source.write(parameter.ok_or_else(lost)?, tensor.dtype, out)
        })
        .map_err(bad)?;
        let (object, bytes) = store.publish_object(staged, ObjectKind::Safetensors)?;
        outputs.push(Output { role: WEIGHTS.to_owned(), object, rows: 0, bytes });
    }
    Ok(outputs)
}

/// Why tensors are not in the store: the disk's reason, or the model's.
pub(super) fn unwritten(store: &Store, e: ExportError) -> StageError {
    match e {
        ExportError::Io(source) | ExportError::File { source, .. } => {
            StoreError::Io { doing: "write weights to", path: store.root().to_owned(), source }.into()
        }
        e => StageError::Model(e.to_string()),
    }
}

/// Takes a checkpoint folder into the store.
///
/// # Errors
/// The folder is not a checkpoint, or the store cannot be written to.
pub fn import(folder: &Path, runner: &Runner<'_>) -> Result<(StageResult, StoredModel), StageError> {
    let files = CheckpointFiles::of(folder)?;
    let result = runner.run(&ImportStage { folder }, &[files])?.results.remove(0);
    let model = StoredModel::from_result(&result)?;
    Ok((result, model))
}

/// A model that a ref of the store names, such as `nano/round-0003/reasoner`; `None` where there is no such ref.
///
/// # Errors
/// The ref names something else, or the store is damaged.
pub fn find_by_ref(name: &str, store: &Store) -> Result<Option<StoredModel>, StageError> {
    let Some((evolution, name)) = name.split_once('/') else { return Ok(None) };
    let Some(head) = store.head(evolution, name)? else { return Ok(None) };
    store.result_with_outputs(head.result)?.map(|result| StoredModel::from_result(&result)).transpose()
}

/// The digests of a checkpoint's files by name.
struct CheckpointFiles(BTreeMap<String, Digest>);

impl CheckpointFiles {
    fn of(folder: &Path) -> Result<Self, StageError> {
        let source =
            |path: &Path, e: std::io::Error| StageError::Source { path: path.to_owned(), problem: e.to_string() };
        let mut files = BTreeMap::new();
        // Named only where the processor is taken from it; what is wrong with it is said when it is read.
        let section = ProcessorText::find(folder).is_ok_and(|processor| processor.is_section);
        for entry in std::fs::read_dir(folder).map_err(|e| source(folder, e))? {
            let path = entry.map_err(|e| source(folder, e))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let is_section = section && name == PROCESSORS_FILE;
            if is_section || SIDE_FILES.contains(&name.as_str()) || name.ends_with(".safetensors") {
                let mut hasher = blake3::Hasher::new();
                let file = std::fs::File::open(&path).map_err(|e| source(&path, e))?;
                hasher.update_reader(file).map_err(|e| source(&path, e))?;
                files.insert(name, Digest::from(hasher.finalize()));
            }
        }
        Ok(Self(files))
    }
}

/// Puts the files of a model together as one result, which a ref can name. `upstream` is where its weights come from.
///
/// # Errors
/// The store cannot be written to.
pub fn assemble(model: &StoredModel, upstream: Vec<ActionKey>, runner: &Runner<'_>) -> Result<StageResult, StageError> {
    Ok(runner.run(&AssembleStage { model, upstream }, &[()])?.results.remove(0))
}

struct AssembleStage<'a> {
    model: &'a StoredModel,
    upstream: Vec<ActionKey>,
}

impl Stage for AssembleStage<'_> {
    type Shard = ();

    fn phase(&self) -> &'static str {
        "naming the model"
    }

    fn action(&self, _shard: &()) -> Action {
        let inputs = self.model.outputs().into_iter().map(|o| Input { role: o.role, object: o.object });
        Action {
            stage: "model.assemble".into(),
            stage_version: 1,
            parameters: BTreeMap::new(),
            seed: 0,
            inputs: inputs.collect(),
            model: Some(self.model.id.0),
            shard: BTreeMap::new(),
            schemas: BTreeMap::new(),
            writer_profile: 0,
        }
    }

    fn units(&self, _shard: &()) -> u64 {
        1
    }

    fn run_shard(&self, _shard: &(), runner: &Runner<'_>) -> Result<ShardOutput, StageError> {
        runner.progress.advance(1);
        Ok(ShardOutput { outputs: self.model.outputs(), upstream: self.upstream.clone(), ..ShardOutput::default() })
    }
}

struct ImportStage<'a> {
    folder: &'a Path,
}

impl Stage for ImportStage<'_> {
    type Shard = CheckpointFiles;

    fn phase(&self) -> &'static str {
        "storing the base model"
    }

    fn action(&self, files: &CheckpointFiles) -> Action {
        let digests = files.0.iter().map(|(name, digest)| (name.clone(), Value::from(digest.to_string())));
        Action {
            stage: "model.import".into(),
            stage_version: 1,
            parameters: digests.collect(),
            seed: 0,
            inputs: Vec::new(),
            model: None,
            shard: BTreeMap::new(),
            schemas: BTreeMap::new(),
            writer_profile: 0,
        }
    }

    fn units(&self, _files: &CheckpointFiles) -> u64 {
        1
    }

    fn run_shard(&self, _files: &CheckpointFiles, runner: &Runner<'_>) -> Result<ShardOutput, StageError> {
        let bad = |e: &dyn std::error::Error| StageError::Model(e.to_string());
        let config = Config::load(self.folder).map_err(|e| bad(&e))?;
        Tokenizer::load(self.folder, &config).map_err(|e| bad(&e))?;
        let processor = ProcessorText::find(self.folder).map_err(|e| bad(&e))?;
        let its = processor.processor().map_err(|e| bad(&e))?;
        check_patches(&processor.path, &its, &config).map_err(|e| bad(&e))?;
        let weights = Weights::open(self.folder, &config).map_err(|e| bad(&e))?;
        let mut outputs = Vec::new();
        for name in SIDE_FILES {
            let read = match name {
                // A section of another file becomes a file of its own.
                PROCESSOR_FILE => Ok(processor.text.clone().into_bytes()),
                _ => std::fs::read(self.folder.join(name)),
            };
            match read {
                Ok(bytes) => {
                    let object: ObjectId = runner.store.put_object(&bytes, ObjectKind::Json)?;
                    outputs.push(Output { role: name.to_owned(), object, rows: 0, bytes: bytes.len() as u64 });
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && name == GENERATION_FILE => {}
                Err(e) => return Err(StageError::Source { path: self.folder.join(name), problem: e.to_string() }),
            }
        }
        outputs.extend(store_weights(runner.store, &config, &weights)?);
        runner.progress.advance(1);
        Ok(ShardOutput { outputs, counts: Counts::default(), ..ShardOutput::default() })
    }
}
