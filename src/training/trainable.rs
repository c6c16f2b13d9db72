//! The weights of a model in training: trained variables, frozen tensors and LoRA adapters.

use std::collections::BTreeMap;
use std::io::Write;

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use serde::{Deserialize, Serialize};

use super::lora::{LoraSettings, adapter_names, init_adapter};
use crate::random::Seed;
use crate::vlm::config::Config;
use crate::vlm::export::ExportError;
use crate::vlm::named_tensors::NamedTensors;
use crate::vlm::ops::Ops;
use crate::vlm::parameters::{ModelPart, Parameter, parameters};
use crate::vlm::safetensors_header::StoredType;
use crate::vlm::tensor_source::{TensorSource, write_tensor};

/// Selection of the tensors that are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum TrainScope {
    /// Every tensor.
    All,
    /// Every tensor of the text tower; the vision tower and the merger are frozen.
    Text,
    /// LoRA adapters on linear layers of the text tower; every tensor of the model is frozen.
    Lora(LoraSettings),
}

/// The weights of a model in training.
///
/// Trained tensors are variables in f32. Layers compute with a cast to the compute dtype that is
/// part of the autograd graph, so gradients are in f32. Frozen tensors are stored in the compute
/// dtype.
#[derive(Debug)]
pub struct TrainableModel {
    config: Config,
    /// `None`: every tensor is frozen.
    trained: Option<TrainScope>,
    variables: BTreeMap<String, Var>,
    frozen: BTreeMap<String, Tensor>,
    compute: DType,
    device: Device,
    ops: Ops,
}

/// The adapter of a weight, which is used as `W + factor * B A`.
#[derive(Debug)]
pub(super) struct LoraPair<'a> {
    /// A `[rank, in]` and B `[out, rank]` with their names.
    pub(super) halves: [(&'a str, &'a Var); 2],
    /// `alpha / rank`.
    pub(super) factor: f64,
}

impl TrainableModel {
    /// Loads frozen weights: a reference policy.
    pub fn frozen(config: &Config, source: &dyn NamedTensors, compute: DType, device: &Device) -> Result<Self> {
        Self::new(config, None::<TrainScope>, source, Seed(0), compute, device)
    }

    /// Loads the weights of `source`; without a `trained` scope all are frozen. Layers compute in
    /// the dtype `compute`; new LoRA adapters are drawn from `seed`.
    pub fn new(
        config: &Config,
        trained: impl Into<Option<TrainScope>>,
        source: &dyn NamedTensors,
        seed: Seed,
        compute: DType,
        device: &Device,
    ) -> Result<Self> {
        let trained = trained.into();
        let (mut variables, mut frozen) = (BTreeMap::new(), BTreeMap::new());
        for parameter in parameters(config) {
            let tensor = source.tensor(&parameter.name)?.detach();
            let in_vision =
                matches!(parameter.part, ModelPart::PatchEmbedding | ModelPart::VisionBlock(_) | ModelPart::Merger);
            let moves = match &trained {
                None => false,
                Some(TrainScope::All) => true,
                Some(TrainScope::Text) => !in_vision,
                Some(TrainScope::Lora(lora)) => {
                    if lora.covers(&parameter) {
                        let halves = init_adapter(&parameter, lora.rank, seed, device)?;
                        for (name, half) in adapter_names(&parameter.name).into_iter().zip(halves) {
                            variables.insert(name, Var::from_tensor(&half)?);
                        }
                    }
                    false
                }
            };
            let tensor = tensor.to_device(device)?;
            if moves {
                variables.insert(parameter.name, Var::from_tensor(&tensor.to_dtype(DType::F32)?)?);
            } else {
                frozen.insert(parameter.name, tensor.to_dtype(compute)?);
            }
        }
        let (config, device, ops) = (config.clone(), device.clone(), source.ops());
        Ok(Self { config, trained, variables, frozen, compute, device, ops })
    }

    /// Returns the same weights, computed with `ops` instead of the source's implementation.
    #[must_use]
    pub fn with_ops(self, ops: Ops) -> Self {
        Self { ops, ..self }
    }

    /// Returns the model's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the dtype that layers compute in.
    pub fn compute_type(&self) -> DType {
        self.compute
    }

    /// Returns the device of the weights.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether our CPU kernels compute the forward and the backward pass.
    pub fn uses_cpu_kernels(&self) -> bool {
        self.ops.uses_cpu_kernels(&self.device, self.compute)
    }

    /// Returns the trained tensors by name, in order.
    pub fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    /// Returns the trained variables that a tensor of the model is computed from: itself, its
    /// adapter's A and B, or none.
    pub(super) fn variables_of(&self, name: &str) -> impl Iterator<Item = (&str, &Var)> {
        let [a, b] = adapter_names(name);
        let variables = [name, &a, &b].map(|name| self.variables.get_key_value(name));
        variables.into_iter().flatten().map(|(name, variable)| (name.as_str(), variable))
    }

    /// Whether any tensor of the vision tower is trained.
    pub fn trains_vision(&self) -> bool {
        self.trained == Some(TrainScope::All)
    }

    /// Whether adapters are trained.
    pub fn has_adapters(&self) -> bool {
        matches!(self.trained, Some(TrainScope::Lora(_)))
    }

    /// Whether the embedding matrix is trained.
    pub fn trains_embedding(&self) -> bool {
        matches!(self.trained, Some(TrainScope::All | TrainScope::Text))
    }

    /// Replaces the value of a trained tensor, as when a checkpoint is loaded.
    pub fn set(&self, name: &str, value: &Tensor) -> Result<()> {
        match self.variables.get(name) {
            Some(variable) => variable.set(&value.to_dtype(DType::F32)?.to_device(&self.device)?),
            None => bail!("{name} is not trained"),
        }
    }

    /// Returns the model's current tensors with adapters merged, for sampling, export and
    /// checkpoints. Trained tensors are in f32.
    pub fn merged(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut merged = BTreeMap::new();
        for parameter in parameters(&self.config) {
            let tensor = self.merged_tensor(&parameter.name)?;
            // A copy, since the next update changes the variable in place.
            let tensor = if self.is_trained(&parameter.name) { tensor.force_contiguous()? } else { tensor };
            merged.insert(parameter.name, tensor);
        }
        Ok(merged)
    }

    /// Returns one tensor of [`merged`](Self::merged). The next update may change it.
    fn merged_tensor(&self, name: &str) -> Result<Tensor> {
        match self.variables.get(name) {
            Some(variable) => Ok(variable.as_detached_tensor()),
            None => DetachedWeights(self).tensor(name),
        }
    }

    /// Whether this tensor is itself trained (not only its adapter).
    pub(super) fn is_trained(&self, name: &str) -> bool {
        self.variables.contains_key(name)
    }

    /// Returns the adapter of a tensor.
    pub(super) fn adapter(&self, name: &str) -> Option<LoraPair<'_>> {
        let Some(TrainScope::Lora(lora)) = &self.trained else { return None };
        let [a, b] = adapter_names(name).map(|half| self.variables.get_key_value(&half));
        let halves = [a?, b?].map(|(name, half)| (name.as_str(), half));
        Some(LoraPair { halves, factor: lora.factor() })
    }

    /// Returns a tensor with its adapter added, in the compute dtype; `value` reads a variable.
    fn effective(&self, name: &str, value: impl Fn(&Var) -> Tensor) -> Result<Tensor> {
        if let Some(variable) = self.variables.get(name) {
            return value(variable).to_dtype(self.compute);
        }
        let Some(tensor) = self.frozen.get(name) else { bail!("there is no tensor {name}") };
        let Some(LoraPair { halves: [(_, a), (_, b)], factor }) = self.adapter(name) else {
            return tensor.to_dtype(self.compute);
        };
        let change = (value(b).matmul(&value(a))? * factor)?;
        (tensor.to_dtype(DType::F32)? + change)?.to_dtype(self.compute)
    }
}

/// Layers built from these tensors are part of the autograd graph: gradients reach the variables.
impl NamedTensors for TrainableModel {
    fn tensor(&self, name: &str) -> Result<Tensor> {
        self.effective(name, |variable| variable.as_tensor().clone())
    }

    fn ops(&self) -> Ops {
        self.ops
    }
}

/// The current model with adapters merged, one tensor at a time, so that a second copy of all the
/// weights is never in memory.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a>(pub &'a TrainableModel);

/// The tensors for sampling, in the compute dtype; later updates do not change them.
impl NamedTensors for Snapshot<'_> {
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let tensor = DetachedWeights(self.0).tensor(name)?;
        // Without a cast it would be the variable's own storage.
        if self.0.is_trained(name) && self.0.compute == DType::F32 { tensor.copy() } else { Ok(tensor) }
    }

    fn ops(&self) -> Ops {
        self.0.ops
    }
}

/// The tensors of a checkpoint: trained tensors in f32, the others in the compute dtype.
impl TensorSource for Snapshot<'_> {
    fn stored_type(&self, parameter: &Parameter) -> std::result::Result<StoredType, ExportError> {
        match if self.0.is_trained(&parameter.name) { DType::F32 } else { self.0.compute } {
            DType::BF16 => Ok(StoredType::BF16),
            DType::F16 => Ok(StoredType::F16),
            _ => Ok(StoredType::F32),
        }
    }

    fn write(
        &self,
        parameter: &Parameter,
        dtype: StoredType,
        out: &mut dyn Write,
    ) -> std::result::Result<(), ExportError> {
        let lost = |e: candle_core::Error| ExportError::Tensor(parameter.name.clone(), e.to_string());
        write_tensor(&self.0.merged_tensor(&parameter.name).map_err(lost)?, parameter, dtype, out)
    }
}

/// The current tensors without an autograd graph, for forward passes only.
#[derive(Debug, Clone, Copy)]
pub struct DetachedWeights<'a>(pub &'a TrainableModel);

impl NamedTensors for DetachedWeights<'_> {
    fn tensor(&self, name: &str) -> Result<Tensor> {
        self.0.effective(name, Var::as_detached_tensor)
    }

    fn ops(&self) -> Ops {
        self.0.ops
    }
}
