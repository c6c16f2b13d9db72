//! Models in the store: one object per part of the weights, so that unchanged parts are stored
//! once, and the checkpoint's other files byte for byte. A model's id is a digest over all of them.

mod companions;
mod import;
mod store_weights;

use self::companions::import_of;
pub use self::companions::{BASE, CHECKPOINT, find_companions, read_companions, store_companions};
pub use self::import::{import, is_emptied};
pub(super) use self::store_weights::put_tensors;
pub use self::store_weights::store_weights;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use once_cell::sync::OnceCell;
use rayon::prelude::*;
use serde_json::Value;

use super::{Result, Runner, ShardOutput, Stage, StageError, inputs, new_action};
use crate::ids::{Digest, ModelId};
use crate::imaging::{MAX_RESIZED_PIXELS, PixelBudget};
use crate::store::{Action, ActionKey, Output, Ref, StageResult, Store, VerifyDepth, is_name};
use crate::vlm::checkpoint::{GENERATION_FILE, PROCESSOR_FILE, check_patches, stop_tokens_of};
use crate::vlm::config::{CONFIG_FILE, Config};
use crate::vlm::export::SideFiles;
use crate::vlm::image_processor::ImageProcessor;
use crate::vlm::model::Model;
use crate::vlm::named_tensors::{NamedTensors, Purpose};
use crate::vlm::ops::Ops;
use crate::vlm::tokenizer::{TOKENIZER_FILE, Tokenizer};
use crate::vlm::weights::Weights;

/// The name of the stage that imports a checkpoint folder.
pub const IMPORT: &str = "model.import";
/// The name of the stage that publishes a trained model.
pub const ASSEMBLE: &str = "model.assemble";
/// Role of a weights object among the outputs of a result.
pub const WEIGHTS: &str = "weights";
/// The files that sampling needs besides the weights, in the order of the model's id.
const SIDE_FILES: [&str; 4] = [CONFIG_FILE, TOKENIZER_FILE, PROCESSOR_FILE, GENERATION_FILE];

/// A model in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredModel {
    /// Digest of its weights and its other files.
    pub id: ModelId,
    side: BTreeMap<&'static str, Output>,
    weights: Vec<Output>,
}

impl StoredModel {
    /// Returns the model among the outputs of a result.
    ///
    /// # Errors
    /// A file or the weights are missing.
    pub fn from_result(result: &StageResult) -> Result<Self> {
        let lacks = |part: &str| StageError::missing_part(format!("the result {}", result.action), part);
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

    /// Returns this model with other weights.
    #[must_use]
    pub fn with_weights(&self, weights: Vec<Output>) -> Self {
        Self::new(self.side.clone(), weights)
    }

    /// Returns its objects, as the outputs of a result.
    pub fn outputs(&self) -> Vec<Output> {
        self.side.values().chain(&self.weights).cloned().collect()
    }

    /// Reads everything but the weights. `pixels` replaces the image limits of the checkpoint.
    ///
    /// # Errors
    /// An object is missing, damaged or malformed.
    pub fn assets(&self, store: &Store, pixels: Option<PixelBudget>) -> Result<ModelAssets> {
        let read = |name: &str| match self.side.get(name) {
            Some(output) => Ok(Some(store.read_object(output.object)?)),
            None => Ok::<_, StageError>(None),
        };
        let text =
            |name: &str| Ok::<_, StageError>(String::from_utf8_lossy(&read(name)?.unwrap_or_default()).into_owned());
        let config = self.config(store)?;
        let tokenizer = read(TOKENIZER_FILE)?.unwrap_or_default();
        let tokenizer = Tokenizer::from_bytes(Path::new(TOKENIZER_FILE), &tokenizer).map_err(StageError::model)?;
        let processor = ImageProcessor::from_json(&text(PROCESSOR_FILE)?, Path::new(PROCESSOR_FILE));
        let mut processor = processor.map_err(StageError::model)?;
        // An older version of this program, without this check, may have imported the model.
        check_patches(Path::new(PROCESSOR_FILE), &processor, &config).map_err(StageError::model)?;
        if let Some(budget) = pixels {
            if budget.min_pixels > MAX_RESIZED_PIXELS {
                let problem =
                    format!("{} is above {MAX_RESIZED_PIXELS}, the most that is supported", budget.min_pixels);
                return Err(StageError::parameter("model.min_pixels", problem));
            }
            processor = processor.with_budget(budget);
        }
        let generation: Value = match read(GENERATION_FILE)? {
            Some(bytes) => serde_json::from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes))
                .map_err(StageError::model)?,
            None => Value::Null,
        };
        let stop_tokens = stop_tokens_of(&generation, &tokenizer);
        Ok(ModelAssets { config, tokenizer, processor, stop_tokens })
    }

    /// Reads its configuration.
    ///
    /// # Errors
    /// The object is missing, damaged or malformed.
    pub fn config(&self, store: &Store) -> Result<Config> {
        let lacks = || StageError::missing_part(format!("the model {}", self.id), CONFIG_FILE);
        let output = self.side.get(CONFIG_FILE).ok_or_else(lacks)?;
        let text = String::from_utf8_lossy(&store.read_object(output.object)?).into_owned();
        Config::parse(Path::new(CONFIG_FILE), &text).map_err(StageError::model)
    }

    /// Reads its files other than configuration and weights.
    ///
    /// # Errors
    /// An object is missing or damaged.
    pub fn side_files(&self, store: &Store) -> Result<SideFiles> {
        let files = self.side.iter().filter(|(name, _)| **name != CONFIG_FILE);
        files.map(|(name, output)| Ok(((*name).to_owned(), store.read_object(output.object)?))).collect()
    }

    /// Opens its weights where they are stored, to be read tensor by tensor. `depth` says whether
    /// their bytes are verified first.
    ///
    /// # Errors
    /// An object is missing or damaged, or the tensors do not match the configuration.
    pub fn open_weights(&self, store: &Store, config: &Config, depth: VerifyDepth) -> Result<Weights> {
        let files = self.weights.par_iter().map(|output| Ok(store.object_file(output, depth)?));
        Weights::open_files(files.collect::<Result<_>>()?, config).map_err(StageError::model)
    }

    /// Reads the tensors, in the dtypes in which they are stored.
    ///
    /// # Errors
    /// An object is missing or damaged.
    pub fn tensors(&self, store: &Store) -> Result<HashMap<String, Tensor>> {
        read_tensors(store, &self.weights)
    }
}

/// Reads the tensors of objects, in the dtypes in which they are stored.
pub(super) fn read_tensors<'o>(
    store: &Store,
    outputs: impl IntoIterator<Item = &'o Output>,
) -> Result<HashMap<String, Tensor>> {
    let mut tensors = HashMap::new();
    for output in outputs {
        let bytes = store.read_object(output.object)?;
        let read = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu);
        tensors.extend(read.map_err(|e| StageError::malformed(output.object.name(), e))?);
    }
    Ok(tensors)
}

/// Everything that a model needs besides its weights.
#[derive(Debug)]
pub struct ModelAssets {
    /// Architecture of the model.
    pub config: Config,
    /// Converts between text and tokens.
    pub tokenizer: Tokenizer,
    /// Converts images to patches.
    pub processor: ImageProcessor,
    /// Tokens that end an answer.
    pub stop_tokens: Vec<u32>,
}

/// A model in memory, ready for sampling.
#[derive(Debug)]
pub struct LoadedModel {
    /// The model.
    pub model: Model,
    /// Its other parts.
    pub assets: Arc<ModelAssets>,
}

impl LoadedModel {
    /// Loads stored tensors, converting them to `dtype` and copying them to `device` one by one.
    /// The model computes with the implementation `ops`.
    ///
    /// # Errors
    /// The tensors do not match the configuration.
    pub fn from_stored(
        assets: Arc<ModelAssets>,
        tensors: &HashMap<String, Tensor>,
        dtype: DType,
        device: &Device,
        ops: Ops,
    ) -> Result<Self> {
        Self::new(assets, &TensorsOnDevice { tensors, dtype, device, ops })
    }

    /// Loads tensors that are already on the device and in the dtype of the computation.
    ///
    /// # Errors
    /// The tensors do not match the configuration.
    pub fn new(assets: Arc<ModelAssets>, source: &dyn NamedTensors) -> Result<Self> {
        let model = Model::new(assets.config.clone(), source, Purpose::Sampling);
        Ok(Self { model: model.map_err(StageError::model)?, assets })
    }
}

/// Tensors that are converted and copied to a device on request.
struct TensorsOnDevice<'a> {
    tensors: &'a HashMap<String, Tensor>,
    dtype: DType,
    device: &'a Device,
    ops: Ops,
}

impl NamedTensors for TensorsOnDevice<'_> {
    fn tensor(&self, name: &str) -> candle_core::Result<Tensor> {
        // Converted on the device, since a GPU is faster at it.
        self.tensors.tensor(name)?.to_device(self.device)?.to_dtype(self.dtype)
    }

    fn ops(&self) -> Ops {
        self.ops
    }
}

/// A model that is loaded on first use, never if the stage has all its results already.
pub struct ModelHandle<'a> {
    /// Id in actions and rows.
    pub id: ModelId,
    /// Whether its weights exist only in the processes that train them, between two checkpoints.
    pub is_in_training: bool,
    load: Box<dyn Fn() -> Result<LoadedModel> + Send + Sync + 'a>,
    loaded: OnceCell<LoadedModel>,
}

impl<'a> ModelHandle<'a> {
    /// Returns a handle to the model that `load` loads.
    pub fn new(id: ModelId, load: impl Fn() -> Result<LoadedModel> + Send + Sync + 'a) -> Self {
        Self { id, is_in_training: false, load: Box::new(load), loaded: OnceCell::new() }
    }

    /// Returns a handle to a model in training.
    pub fn in_training(id: ModelId, load: impl Fn() -> Result<LoadedModel> + Send + Sync + 'a) -> Self {
        Self { is_in_training: true, ..Self::new(id, load) }
    }

    /// Returns the model, loading it on first use.
    ///
    /// # Errors
    /// The model cannot be loaded.
    pub fn get(&self) -> Result<&LoadedModel> {
        self.loaded.get_or_try_init(&self.load)
    }
}

/// A model that a ref names.
#[derive(Debug, Clone)]
pub struct NamedModel {
    /// The ref.
    pub reference: Ref,
    /// The model.
    pub model: StoredModel,
}

/// Returns the model that a ref names, such as `nano/round-0003/reasoner` or `nano/base`; `None`
/// where there is no such ref. `@N` after the name selects the N-th version of it, and the number
/// of a round may be written without leading zeros.
///
/// # Errors
/// The ref names no model, or the store is damaged.
pub fn find_by_ref(text: &str, store: &Store) -> Result<Option<NamedModel>> {
    let (path, version) = match text.split_once('@') {
        Some((path, version)) => (path, version.parse::<u32>().ok()),
        None => (text, None),
    };
    if text.contains('@') && version.is_none() {
        return Ok(None);
    }
    let Some((evolution, name)) = path.split_once('/') else { return Ok(None) };
    if !is_name(evolution) || !name.split('/').all(is_name) {
        return Ok(None);
    }
    let name = full_name(name);
    let found = match version {
        None => store.head(evolution, &name)?,
        Some(n) => store.refs()?.into_iter().find(|r| (&*r.evolution, &r.name, r.sequence) == (evolution, &name, n)),
    };
    let Some(found) = found else { return Ok(None) };
    let stage = store.action(found.result)?.stage;
    if ![IMPORT, ASSEMBLE, CHECKPOINT].contains(&stage.as_str()) {
        let problem = format!("{found} is the result of `{stage}`, which is no model");
        return Err(StageError::NoModel { problem });
    }
    let lost = || StageError::Lost(format!("a part of the result of {found}"));
    let mut result = store.result_with_outputs(found.result)?.ok_or_else(lost)?;
    if stage == CHECKPOINT {
        result = import_of(&result, store)?.ok_or_else(lost)?;
    }
    let model = StoredModel::from_result(&result)?;
    Ok(Some(NamedModel { reference: found, model }))
}

/// Writes the number of a round with four digits: `round-0003/reasoner` for `round-3/reasoner`.
pub fn full_name(name: &str) -> String {
    let padded = || {
        let (round, part) = name.strip_prefix("round-")?.split_once('/')?;
        Some(format!("round-{:04}/{part}", round.parse::<u32>().ok()?))
    };
    padded().unwrap_or_else(|| name.to_owned())
}

/// Publishes the files of a model as one result, which a ref can name. `upstream` lists the results
/// that its weights come from.
///
/// # Errors
/// The store cannot be written to.
pub fn assemble(model: &StoredModel, upstream: Vec<ActionKey>, runner: &Runner<'_>) -> Result<StageResult> {
    Ok(runner.run(&AssembleStage { model, upstream }, &[()])?.results.remove(0))
}

struct AssembleStage<'a> {
    model: &'a StoredModel,
    upstream: Vec<ActionKey>,
}

impl Stage for AssembleStage<'_> {
    type Shard = ();
    const PHASE: &'static str = "publishing the model";

    fn action(&self, _shard: &()) -> Action {
        Action {
            inputs: inputs(&self.model.outputs()),
            model: Some(self.model.id.0),
            writer_profile: 0,
            ..new_action(ASSEMBLE, 1, [])
        }
    }

    fn run_shard(&self, _shard: &(), runner: &Runner<'_>) -> Result<ShardOutput> {
        runner.progress.advance(1);
        Ok(ShardOutput { outputs: self.model.outputs(), upstream: self.upstream.clone(), ..ShardOutput::default() })
    }
}
