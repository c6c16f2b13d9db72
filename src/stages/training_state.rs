//! A role in training: weights and optimizer in memory, and as objects of the store.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};

use crate::kernels::heap::TrimHeapOnDrop;
use crate::random::Seed;
use crate::stages::StageError;
use crate::stages::model::{ModelAssets, store_weights, unwritten};
use crate::store::{ObjectKind, Output, StageResult, Store};
use crate::training::adamw::Moments;
use crate::training::trainable::Snapshot;
use crate::training::{AdamW, AdamWSettings, TrainScope, TrainableModel, TrainingError};
use crate::vlm::conversion::stored_bytes;
use crate::vlm::export::ExportError;
use crate::vlm::ops::Ops;
use crate::vlm::safetensors_header::StoredType;
use crate::vlm::safetensors_writer::{PlannedTensor, write_tensors};

/// The part that the optimizer's state plays in a result.
const OPTIMIZER: &str = "optimizer";
/// The figure with the optimizer's count of updates.
pub(super) const UPDATES: &str = "optimizer_updates";

/// What a training begins with, beside the weights.
#[derive(Debug, Clone)]
pub(super) struct TrainingInit<'a> {
    pub(super) trained: TrainScope,
    pub(super) optimizer: AdamWSettings,
    /// Whether a copy of the weights is kept to compare with.
    pub(super) reference: bool,
    /// The type to compute in.
    pub(super) dtype: DType,
    /// Where to compute.
    pub(super) device: &'a Device,
    /// The implementation of the ops to compute by.
    pub(super) ops: Ops,
    /// Of fresh adapters.
    pub(super) seed: u64,
}

/// Weights, optimizer and reference after some steps.
pub(super) struct TrainingState {
    /// Steps made.
    pub(super) step: u32,
    pub(super) weights: TrainableModel,
    pub(super) optimizer: AdamW,
    pub(super) reference: Option<TrainableModel>,
    /// Dropped last: what the steps went through is given back with the weights.
    _memory: TrimHeapOnDrop,
}

impl TrainingState {
    /// The beginning of a role's training.
    pub(super) fn start(
        assets: &ModelAssets,
        tensors: &HashMap<String, Tensor>,
        begin: TrainingInit<'_>,
    ) -> Result<Self, TrainingError> {
        let TrainingInit { trained, optimizer, reference, dtype, device, ops, seed } = begin;
        if let TrainScope::Lora(lora) = &trained
            && !(1..=assets.config.text.hidden_size).contains(&lora.rank)
        {
            let problem =
                format!("{} is not within 1 to {}, the model's width", lora.rank, assets.config.text.hidden_size);
            return Err(TrainingError::Setting { key: "lora_rank", problem });
        }
        let weights = TrainableModel::new(&assets.config, trained, tensors, Seed(seed), dtype, device)?.with_ops(ops);
        let optimizer = AdamW::new(optimizer, weights.variables())?;
        let reference = match reference {
            true => Some(TrainableModel::frozen(&assets.config, tensors, dtype, device)?.with_ops(ops)),
            false => None,
        };
        Ok(Self { step: 0, weights, optimizer, reference, _memory: TrimHeapOnDrop })
    }

    /// Puts this at the place of a kept checkpoint.
    pub(super) fn resume(&mut self, store: &Store, kept: &StageResult, step: u32) -> Result<(), StageError> {
        let tensors = kept_state(store, kept)?;
        let take = |kind: &str, name: &str| {
            let tensor = tensors.get(&format!("{kind}.{name}")).cloned();
            tensor.ok_or_else(|| StageError::Conflict(format!("the checkpoint {} lacks {kind} of {name}", kept.action)))
        };
        let mut moments = BTreeMap::new();
        for name in self.weights.variables().keys() {
            let moment = |kind| -> Result<Tensor, StageError> {
                Ok(take(kind, name)?.to_device(self.weights.device()).map_err(TrainingError::from)?)
            };
            moments.insert(name.clone(), Moments { first: moment("first")?, second: moment("second")? });
            self.weights.set(name, &take("weight", name)?).map_err(TrainingError::from)?;
        }
        let updates = kept.figures.get(UPDATES).copied().unwrap_or(0);
        self.optimizer = AdamW::resumed(self.optimizer.settings(), moments, updates);
        self.step = step;
        Ok(())
    }

    /// Stores the model as it is now and what going on from here needs.
    pub(super) fn keep(&self, store: &Store, assets: &ModelAssets) -> Result<Vec<Output>, StageError> {
        let mut outputs = store_weights(store, &assets.config, &Snapshot(&self.weights))?;
        let mut state = BTreeMap::new();
        for (name, moments) in self.optimizer.moments() {
            state.insert(format!("first.{name}"), moments.first.clone());
            state.insert(format!("second.{name}"), moments.second.clone());
        }
        for (name, variable) in self.weights.variables() {
            state.insert(format!("weight.{name}"), variable.as_detached_tensor());
        }
        outputs.push(put_tensors(store, OPTIMIZER, &state)?);
        Ok(outputs)
    }
}

/// The trained tensors of a kept checkpoint, by their own names: of an adapter, its halves.
pub(super) fn trained_tensors(store: &Store, kept: &StageResult) -> Result<BTreeMap<String, Tensor>, StageError> {
    let state = kept_state(store, kept)?.into_iter();
    Ok(state.filter_map(|(name, tensor)| Some((name.strip_prefix("weight.")?.to_owned(), tensor))).collect())
}

/// What [`TrainingState::keep`] stored beside the model.
fn kept_state(store: &Store, kept: &StageResult) -> Result<HashMap<String, Tensor>, StageError> {
    let mut tensors = HashMap::new();
    for output in kept.outputs_of(OPTIMIZER) {
        let bytes = store.read_object(output.object)?;
        let read = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu);
        tensors.extend(read.map_err(TrainingError::from)?);
    }
    Ok(tensors)
}

/// Stores tensors as one object: bf16 as it is, whatever else in f32.
fn put_tensors(store: &Store, role: &str, tensors: &BTreeMap<String, Tensor>) -> Result<Output, StageError> {
    let planned: Vec<PlannedTensor> = tensors
        .iter()
        .map(|(name, tensor)| PlannedTensor {
            name: name.clone(),
            dtype: if tensor.dtype() == DType::BF16 { StoredType::BF16 } else { StoredType::F32 },
            shape: tensor.dims().to_vec(),
        })
        .collect();
    let mut staged = store.stage()?;
    write_tensors(&mut staged, &planned, |tensor, out| {
        let values = tensors
            .get(&tensor.name)
            .map(|t| t.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1());
        let wrong = |problem: String| ExportError::Tensor(tensor.name.clone(), problem);
        let values: Vec<f32> = match values {
            Some(values) => values.map_err(|e: candle_core::Error| wrong(e.to_string()))?,
            None => return Err(wrong("is not there".to_owned())),
        };
        Ok(out.write_all(&stored_bytes(&values, tensor.dtype))?)
    })
    .map_err(|e| unwritten(store, e))?;
    let (object, bytes) = store.publish_object(staged, ObjectKind::Safetensors)?;
    Ok(Output { role: role.to_owned(), object, rows: 0, bytes })
}
