//! Models in the store: one object per part of the weights, so that unchanged parts are stored
//! once, and the checkpoint's other files byte for byte. A model's id is a digest over all of them.

mod import;
mod store_weights;

pub use self::import::import;
pub(super) use self::store_weights::put_tensors;
pub use self::store_weights::store_weights;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use once_cell::sync::OnceCell;
use serde_json::Value;

use super::{Result, Runner, ShardOutput, Stage, StageError, inputs, new_action};
use crate::ids::{Digest, ModelId};
use crate::imaging::{MAX_RESIZED_PIXELS, PixelBudget};
use crate::store::{Action, ActionKey, Output, StageResult, Store};
use crate::vlm::checkpoint::{GENERATION_FILE, PROCESSOR_FILE, check_patches, stop_tokens_of};
use crate::vlm::config::{CONFIG_FILE, Config};
use crate::vlm::image_processor::ImageProcessor;
use crate::vlm::model::Model;
use crate::vlm::named_tensors::{NamedTensors, Purpose};
use crate::vlm::ops::Ops;
use crate::vlm::tokenizer::{TOKENIZER_FILE, Tokenizer};

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
        let config = Config::parse(Path::new(CONFIG_FILE), &text(CONFIG_FILE)?).map_err(StageError::model)?;
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
    load: Box<dyn Fn() -> Result<LoadedModel> + Send + Sync + 'a>,
    loaded: OnceCell<LoadedModel>,
}

impl<'a> ModelHandle<'a> {
    /// Returns a handle to the model that `load` loads.
    pub fn new(id: ModelId, load: impl Fn() -> Result<LoadedModel> + Send + Sync + 'a) -> Self {
        Self { id, load: Box::new(load), loaded: OnceCell::new() }
    }

    /// Returns the model, loading it on first use.
    ///
    /// # Errors
    /// The model cannot be loaded.
    pub fn get(&self) -> Result<&LoadedModel> {
        self.loaded.get_or_try_init(&self.load)
    }
}

/// Returns the model that a ref names, such as `nano/round-0003/reasoner`; `None` where there is no
/// such ref.
///
/// # Errors
/// The ref names no model, or the store is damaged.
pub fn find_by_ref(name: &str, store: &Store) -> Result<Option<StoredModel>> {
    let Some((evolution, name)) = name.split_once('/') else { return Ok(None) };
    let Some(head) = store.head(evolution, name)? else { return Ok(None) };
    store.result_with_outputs(head.result)?.map(|result| StoredModel::from_result(&result)).transpose()
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
            ..new_action("model.assemble", 1, [])
        }
    }

    fn run_shard(&self, _shard: &(), runner: &Runner<'_>) -> Result<ShardOutput> {
        runner.progress.advance(1);
        Ok(ShardOutput { outputs: self.model.outputs(), upstream: self.upstream.clone(), ..ShardOutput::default() })
    }
}
