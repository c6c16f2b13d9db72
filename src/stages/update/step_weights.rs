//! Weights after a step, which the process that made the update shares with other workers.
//!
//! A worker that samples with weights between two checkpoints would have to make the updates since
//! the last checkpoint itself. Reading the weights is usually much cheaper. The file holds what
//! sampling needs and no more: the trained tensors, without the moments of the optimizer.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use crate::ids::{Digest, ModelId};
use crate::network_files::is_stale;
use crate::stages::training_state::{planned, write_planned};
use crate::stages::{Result, StageError};
use crate::store::{Store, StoreError};
use crate::training::TrainingError;
use crate::training::trainable::TrainableModel;
use crate::vlm::safetensors_writer::write_tensors;

/// Shares the weights `model`.
///
/// # Errors
/// The store cannot be written to.
pub(super) fn share(store: &Store, model: ModelId, weights: &TrainableModel) -> Result<()> {
    // A sampler casts trained tensors to the compute dtype, so they can be stored in it; adapters
    // are merged in f32 first.
    let dtype = if weights.has_adapters() { DType::F32 } else { weights.compute_type() };
    let cast = |tensor: &Tensor| if dtype == DType::BF16 { tensor.to_dtype(dtype) } else { Ok(tensor.clone()) };
    let tensors: BTreeMap<String, Tensor> = (weights.variables().iter())
        .map(|(name, variable)| Ok((name.clone(), cast(&variable.as_detached_tensor())?)))
        .collect::<candle_core::Result<_>>()
        .map_err(TrainingError::from)?;
    let mut staged = store.stage()?;
    write_tensors(&mut staged, &planned(&tensors), |tensor, out| write_planned(&tensors, tensor, out))
        .map_err(StageError::model)?;
    Ok(store.publish_step_weights(model, staged)?)
}

/// Loads the shared weights `model`; `false` if nobody has shared them, or their file is damaged.
///
/// # Errors
/// The store cannot be read, or the weights do not fit.
pub(super) fn fetch(store: &Store, model: ModelId, weights: &TrainableModel) -> Result<bool> {
    let Some(file) = store.step_weights(model)? else { return Ok(false) };
    let bytes = match std::fs::read(&file.path) {
        Ok(bytes) => bytes,
        // The process that shared it has just removed it.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound || is_stale(&e) => return Ok(false),
        Err(source) => return Err(StoreError::Io { doing: "read", path: file.path, source }.into()),
    };
    if Digest::of(&bytes) != file.digest {
        return Ok(false);
    }
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|e| StageError::malformed(file.path.display().to_string(), e))?;
    for name in weights.variables().keys() {
        let lacks = || StageError::missing_part(file.path.display().to_string(), name.clone());
        weights.set(name, tensors.get(name).ok_or_else(lacks)?).map_err(TrainingError::from)?;
    }
    Ok(true)
}
