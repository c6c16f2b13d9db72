//! The training state of a role: weights and optimizer, in memory and as objects of the store.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};

use crate::kernels::heap::TrimHeapOnDrop;
use crate::random::Seed;
use crate::stages::model::{ModelAssets, put_tensors, read_tensors, store_weights};
use crate::stages::{Result, StageError};
use crate::store::{Output, StageResult, Store};
use crate::training::adamw::Moments;
use crate::training::trainable::Snapshot;
use crate::training::{AdamW, AdamWSettings, TrainScope, TrainableModel, TrainingError};
use crate::vlm::conversion::stored_bytes;
use crate::vlm::export::ExportError;
use crate::vlm::ops::Ops;
use crate::vlm::safetensors_header::StoredType;
use crate::vlm::safetensors_writer::PlannedTensor;

/// Role of the object with the optimizer's state among the outputs of a result.
const OPTIMIZER: &str = "optimizer";
/// Name of the statistic with the optimizer's number of updates.
pub(super) const UPDATES: &str = "optimizer_updates";

/// The settings that a training starts with.
#[derive(Debug, Clone)]
pub(super) struct TrainingInit<'a> {
    pub(super) trained: TrainScope,
    pub(super) optimizer: AdamWSettings,
    /// Whether to keep a copy of the initial weights as the reference policy.
    pub(super) reference: bool,
    /// Dtype of the computation.
    pub(super) dtype: DType,
    /// Device of the computation.
    pub(super) device: &'a Device,
    /// Implementation of the ops.
    pub(super) ops: Ops,
    /// Seed of fresh adapters.
    pub(super) seed: u64,
}

/// Weights, optimizer and reference policy after some steps.
pub(super) struct TrainingState {
    /// Number of steps done.
    pub(super) step: u32,
    pub(super) weights: TrainableModel,
    pub(super) optimizer: AdamW,
    pub(super) reference: Option<TrainableModel>,
    /// Dropped last, so that the memory of the steps is returned together with the weights.
    _memory: TrimHeapOnDrop,
}

impl TrainingState {
    /// Starts a role's training.
    pub(super) fn start(
        assets: &ModelAssets,
        tensors: &HashMap<String, Tensor>,
        init: TrainingInit<'_>,
    ) -> Result<Self, TrainingError> {
        let TrainingInit { trained, optimizer, reference, dtype, device, ops, seed } = init;
        if let TrainScope::Lora(lora) = &trained
            && !(1..=assets.config.text.hidden_size).contains(&lora.rank)
        {
            let problem =
                format!("{} is not within 1 to {}, the model's width", lora.rank, assets.config.text.hidden_size);
            return Err(TrainingError::Setting { key: "lora_rank", problem });
        }
        let weights = TrainableModel::new(&assets.config, trained, tensors, Seed(seed), dtype, device)?.with_ops(ops);
        let optimizer = AdamW::new(optimizer, weights.variables())?;
        let frozen = reference.then(|| TrainableModel::frozen(&assets.config, tensors, dtype, device));
        let reference = frozen.transpose()?.map(|model| model.with_ops(ops));
        Ok(Self { step: 0, weights, optimizer, reference, _memory: TrimHeapOnDrop })
    }

    /// Restores the state from a checkpoint after `step` steps.
    pub(super) fn resume(&mut self, store: &Store, checkpoint: &StageResult, step: u32) -> Result<()> {
        let tensors = optimizer_state(store, checkpoint)?;
        let take = |kind: &str, name: &str| {
            let tensor = tensors.get(&format!("{kind}.{name}")).cloned();
            let record = || format!("the checkpoint {}", checkpoint.action);
            tensor.ok_or_else(|| StageError::missing_part(record(), format!("{kind} of {name}")))
        };
        let mut moments = BTreeMap::new();
        for name in self.weights.variables().keys() {
            let moment = |kind| -> Result<Tensor> {
                Ok(take(kind, name)?.to_device(self.weights.device()).map_err(TrainingError::from)?)
            };
            moments.insert(name.clone(), Moments { first: moment("first")?, second: moment("second")? });
            self.weights.set(name, &take("weight", name)?).map_err(TrainingError::from)?;
        }
        let updates = checkpoint.statistics.get(UPDATES).copied().unwrap_or(0);
        self.optimizer = AdamW::resumed(self.optimizer.settings(), moments, updates);
        self.step = step;
        Ok(())
    }

    /// Stores a checkpoint: the model, and the state that resuming from it needs.
    pub(super) fn save(&self, store: &Store, assets: &ModelAssets) -> Result<Vec<Output>> {
        let mut outputs = store_weights(store, &assets.config, &Snapshot(&self.weights))?;
        let mut state = BTreeMap::new();
        for (name, moments) in self.optimizer.moments() {
            state.insert(format!("first.{name}"), moments.first.clone());
            state.insert(format!("second.{name}"), moments.second.clone());
        }
        for (name, variable) in self.weights.variables() {
            state.insert(format!("weight.{name}"), variable.as_detached_tensor());
        }
        outputs.push(put_state(store, &state)?);
        Ok(outputs)
    }
}

/// Returns the trained tensors of a checkpoint by name; for an adapter its two factors.
pub(super) fn trained_tensors(store: &Store, checkpoint: &StageResult) -> Result<BTreeMap<String, Tensor>> {
    let state = optimizer_state(store, checkpoint)?.into_iter();
    Ok(state.filter_map(|(name, tensor)| Some((name.strip_prefix("weight.")?.to_owned(), tensor))).collect())
}

/// Reads the tensors that [`TrainingState::save`] stored in addition to the model.
fn optimizer_state(store: &Store, checkpoint: &StageResult) -> Result<HashMap<String, Tensor>> {
    read_tensors(store, checkpoint.outputs_of(OPTIMIZER))
}

/// Stores the optimizer's state as one object: bf16 tensors in bf16, all others in f32.
fn put_state(store: &Store, tensors: &BTreeMap<String, Tensor>) -> Result<Output> {
    put_tensors(store, OPTIMIZER, &planned(tensors), |tensor, out| write_planned(tensors, tensor, out))
}

/// Lists tensors as a file stores them: bf16 tensors in bf16, all others in f32.
pub(super) fn planned(tensors: &BTreeMap<String, Tensor>) -> Vec<PlannedTensor> {
    tensors
        .iter()
        .map(|(name, tensor)| PlannedTensor {
            name: name.clone(),
            dtype: if tensor.dtype() == DType::BF16 { StoredType::BF16 } else { StoredType::F32 },
            shape: tensor.dims().to_vec(),
        })
        .collect()
}

/// Writes the values of a planned tensor.
pub(super) fn write_planned(
    tensors: &BTreeMap<String, Tensor>,
    tensor: &PlannedTensor,
    out: &mut dyn std::io::Write,
) -> Result<(), ExportError> {
    let failed = |problem: String| ExportError::Tensor(tensor.name.clone(), problem);
    let stored = tensors.get(&tensor.name).ok_or_else(|| failed("is missing".to_owned()))?;
    let on_cpu = stored.to_device(&Device::Cpu).and_then(|on_cpu| on_cpu.to_dtype(DType::F32)?.flatten_all());
    let values: Vec<f32> = on_cpu.and_then(|on_cpu| on_cpu.to_vec1()).map_err(|e| failed(e.to_string()))?;
    Ok(out.write_all(&stored_bytes(&values, tensor.dtype))?)
}
