//! Where layers find their tensors: by the names that these have in a checkpoint.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, bail};

use super::ops::Ops;
use super::weights::Weights;

/// A source of named tensors: a checkpoint, or the variables of a training step.
pub trait NamedTensors {
    /// The tensor of this name, such as `model.layers.0.mlp.up_proj.weight`.
    fn tensor(&self, name: &str) -> Result<Tensor>;

    /// The implementation of the ops that layers built from these tensors compute by.
    fn ops(&self) -> Ops;
}

impl NamedTensors for HashMap<String, Tensor> {
    fn tensor(&self, name: &str) -> Result<Tensor> {
        match self.get(name) {
            Some(tensor) => Ok(tensor.clone()),
            None => bail!("there is no tensor {name}"),
        }
    }

    fn ops(&self) -> Ops {
        Ops::Kernels
    }
}

/// What a layer is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Forward only: weights are laid out for the kernels and get no gradient.
    Sampling,
    /// Gradients reach the tensors that the layer was built from.
    Training,
}

/// Names under a common beginning.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    source: &'a dyn NamedTensors,
    prefix: &'a str,
    pub(crate) purpose: Purpose,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(source: &'a dyn NamedTensors, prefix: &'a str, purpose: Purpose) -> Self {
        Self { source, prefix, purpose }
    }

    /// The tensor `prefix.name`.
    pub(crate) fn get(&self, name: &str) -> Result<Tensor> {
        let tensor = self.source.tensor(&format!("{}.{name}", self.prefix))?;
        Ok(match self.purpose {
            Purpose::Sampling => tensor.detach(),
            Purpose::Training => tensor,
        })
    }

    pub(crate) fn ops(&self) -> Ops {
        self.source.ops()
    }
}

/// The tensors of a checkpoint, converted and placed as they are asked for.
#[derive(Debug)]
pub struct CheckpointTensors<'a> {
    /// The checkpoint.
    pub weights: &'a Weights,
    /// The type to convert to.
    pub dtype: DType,
    /// Where to place them.
    pub device: &'a Device,
    /// The implementation of the ops that compute with them.
    pub ops: Ops,
}

impl NamedTensors for CheckpointTensors<'_> {
    fn tensor(&self, name: &str) -> Result<Tensor> {
        self.weights.tensor(name, self.dtype, self.device).map_err(candle_core::Error::wrap)
    }

    fn ops(&self) -> Ops {
        self.ops
    }
}
