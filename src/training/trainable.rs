//! The weights of a model in training: which of them move, and how layers get at them.

use std::collections::BTreeMap;
use std::io::Write;

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use serde::{Deserialize, Serialize};

use super::lora::{LoraSettings, adapter_names, fresh};
use crate::random::Seed;
use crate::vlm::config::Config;
use crate::vlm::export::ExportError;
use crate::vlm::named_tensors::NamedTensors;
use crate::vlm::ops::Ops;
use crate::vlm::parameters::{Parameter, Part, parameters};
use crate::vlm::safetensors_header::StoredType;
use crate::vlm::tensor_source::{TensorSource, write_tensor};

/// What is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Trained {
    /// Every tensor.
    All,
    /// Every tensor of the text tower; the vision tower and the merger stay as they are.
    Text,
    /// Adapters on linear maps of the text tower; every tensor of the model stays as it is.
    Lora(LoraSettings),
}

/// The weights of a model in training.
///
/// Trained tensors are variables in f32. Layers get them in the computing type, through a graph that leads the gradient
/// back to f32; frozen ones are kept in the computing type.
#[derive(Debug)]
pub struct Trainable {
    config: Config,
    /// None: nothing moves.
    trained: Option<Trained>,
    variables: BTreeMap<String, Var>,
    frozen: BTreeMap<String, Tensor>,
    compute: DType,
    device: Device,
    ops: Ops,
}

/// The adapter of a tensor: `factor B A` is added to it.
#[derive(Debug)]
pub(super) struct Adapter<'a> {
    /// A and B with their names.
    pub(super) halves: [(&'a str, &'a Var); 2],
    /// The factor.
    pub(super) factor: f64,
}

impl Trainable {
    /// The weights of `source`, to be computed with in `compute`. Fresh adapters are drawn from `seed`.
    pub fn new(
        config: &Config,
        trained: Trained,
        source: &dyn NamedTensors,
        seed: Seed,
        compute: DType,
        device: &Device,
    ) -> Result<Self> {
        Self::with(config, Some(trained), source, seed, compute, device)
    }

    /// Weights of which none moves: a reference.
    pub fn frozen(config: &Config, source: &dyn NamedTensors, compute: DType, device: &Device) -> Result<Self> {
        Self::with(config, None, source, Seed(0), compute, device)
    }

    fn with(
        config: &Config,
        trained: Option<Trained>,
        source: &dyn NamedTensors,
        seed: Seed,
        compute: DType,
        device: &Device,
    ) -> Result<Self> {
        let (mut variables, mut frozen) = (BTreeMap::new(), BTreeMap::new());
        for parameter in parameters(config) {
            let tensor = source.tensor(&parameter.name)?.detach();
            let in_vision = matches!(parameter.part, Part::PatchEmbedding | Part::VisionBlock(_) | Part::Merger);
            let moves = match &trained {
                None => false,
                Some(Trained::All) => true,
                Some(Trained::Text) => !in_vision,
                Some(Trained::Lora(lora)) => {
                    if lora.covers(&parameter) {
                        for (name, half) in
                            adapter_names(&parameter.name).into_iter().zip(fresh(&parameter, lora.rank, seed, device)?)
                        {
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

    /// The same weights, computed with by `ops` instead of the source's.
    #[must_use]
    pub fn with_ops(self, ops: Ops) -> Self {
        Self { ops, ..self }
    }

    /// The model's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is trained; none of a reference.
    pub fn trained(&self) -> Option<&Trained> {
        self.trained.as_ref()
    }

    /// The type that layers compute in.
    pub fn compute_type(&self) -> DType {
        self.compute
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether our CPU kernels compute the forward and the backward pass.
    pub fn uses_cpu_kernels(&self) -> bool {
        self.ops.uses_cpu_kernels(&self.device, self.compute)
    }

    /// The trained tensors by name, in order.
    pub fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    /// The variables behind a tensor of the model: itself, its adapter, or none.
    pub(super) fn variables_of(&self, name: &str) -> impl Iterator<Item = (&str, &Var)> {
        let [a, b] = adapter_names(name);
        [name, a.as_str(), b.as_str()]
            .into_iter()
            .filter_map(|name| self.variables.get_key_value(name))
            .map(|(name, variable)| (name.as_str(), variable))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Whether any tensor of the vision tower is trained.
    pub fn trains_vision(&self) -> bool {
        self.trained == Some(Trained::All)
    }

    /// Whether the embedding matrix is trained.
    pub fn trains_embedding(&self) -> bool {
        matches!(self.trained, Some(Trained::All | Trained::Text))
    }

    /// Replaces a trained tensor: what loading a checkpoint does.
    pub fn set(&self, name: &str, value: &Tensor) -> Result<()> {
        match self.variables.get(name) {
            Some(variable) => variable.set(&value.to_dtype(DType::F32)?.to_device(&self.device)?),
            None => bail!("{name} is not trained"),
        }
    }

    /// The model's tensors as they are now, adapters merged: what sampling, export and checkpoints take. Trained tensors
    /// are in f32.
    pub fn merged(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut merged = BTreeMap::new();
        for parameter in parameters(&self.config) {
            let tensor = self.merged_tensor(&parameter.name)?;
            // A copy: a variable will move on.
            let tensor = if self.trains(&parameter.name) { tensor.force_contiguous()? } else { tensor };
            merged.insert(parameter.name, tensor);
        }
        Ok(merged)
    }

    /// One of [`merged`](Self::merged), which moves on with its variable.
    fn merged_tensor(&self, name: &str) -> Result<Tensor> {
        match self.variables.get(name) {
            Some(variable) => Ok(variable.as_detached_tensor()),
            None => Detached(self).tensor(name),
        }
    }

    /// Whether the tensor of this name is trained itself.
    pub(super) fn trains(&self, name: &str) -> bool {
        self.variables.contains_key(name)
    }

    /// The adapter of the tensor of this name.
    pub(super) fn adapter(&self, name: &str) -> Option<Adapter<'_>> {
        let Some(Trained::Lora(lora)) = &self.trained else { return None };
        let [a, b] = adapter_names(name).map(|half| self.variables.get_key_value(&half));
        let halves = [a?, b?].map(|(name, half)| (name.as_str(), half));
        Some(Adapter { halves, factor: lora.factor() })
    }

    /// The tensor of this name and, if it has one, its adapter.
    fn find(&self, name: &str) -> Result<(Tensor, Option<[&Var; 2]>)> {
        if let Some(variable) = self.variables.get(name) {
            return Ok((variable.as_tensor().clone(), None));
        }
        let Some(tensor) = self.frozen.get(name) else { bail!("there is no tensor {name}") };
        let [a, b] = adapter_names(name);
        let adapter = match (self.variables.get(&a), self.variables.get(&b)) {
            (Some(a), Some(b)) => Some([a, b]),
            _ => None,
        };
        Ok((tensor.clone(), adapter))
    }

    fn composed(&self, tensor: Tensor, adapter: Option<[Tensor; 2]>) -> Result<Tensor> {
        let (Some([a, b]), Some(Trained::Lora(lora))) = (adapter, &self.trained) else {
            return tensor.to_dtype(self.compute);
        };
        let change = (b.matmul(&a)? * lora.factor())?;
        (tensor.to_dtype(DType::F32)? + change)?.to_dtype(self.compute)
    }
}

/// Layers built from this lead gradients to the variables.
impl NamedTensors for Trainable {
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let (tensor, adapter) = self.find(name)?;
        self.composed(tensor, adapter.map(|halves| halves.map(|half| half.as_tensor().clone())))
    }

    fn ops(&self) -> Ops {
        self.ops
    }
}

/// The model as it is now, adapters merged, a tensor at a time: a second copy of all the weights need not fit beside the first.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a>(pub &'a Trainable);

/// What samples: the tensors in the computing type, which stay as they are while the variables move on.
impl NamedTensors for Snapshot<'_> {
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let tensor = Detached(self.0).tensor(name)?;
        // Only where nothing was converted is it the variable itself.
        if self.0.trains(name) && self.0.compute == DType::F32 { tensor.copy() } else { Ok(tensor) }
    }

    fn ops(&self) -> Ops {
        self.0.ops
    }
}

/// What is kept: trained tensors in f32, the others in the computing type.
impl TensorSource for Snapshot<'_> {
    fn stored_type(&self, parameter: &Parameter) -> std::result::Result<StoredType, ExportError> {
        match if self.0.trains(&parameter.name) { DType::F32 } else { self.0.compute } {
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

/// The same tensors for layers that only go forward.
#[derive(Debug, Clone, Copy)]
pub struct Detached<'a>(pub &'a Trainable);

impl NamedTensors for Detached<'_> {
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let (tensor, adapter) = self.0.find(name)?;
        self.0.composed(tensor.detach(), adapter.map(|halves| halves.map(Var::as_detached_tensor)))
    }

    fn ops(&self) -> Ops {
        self.0.ops
    }
}
