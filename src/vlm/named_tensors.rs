//! Sources of tensors by their names in a checkpoint, from which layers are built.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, bail};

use super::ops::{Linear, Ops, RmsNorm};
use super::weights::Weights;

/// A source of named tensors: a checkpoint, or the variables of a training step.
pub trait NamedTensors {
    /// Returns the tensor of this name, such as `model.layers.0.mlp.up_proj.weight`.
    fn tensor(&self, name: &str) -> Result<Tensor>;

    /// Returns the implementation of the ops that layers built from these tensors use.
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

/// The use that a layer is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Forward passes only: weights may be packed for the CPU kernels and get no gradient.
    Sampling,
    /// Forward and backward passes: gradients reach the tensors that the layer is built from.
    Training,
}

impl Purpose {
    /// Builds a linear map with weight `[out, in]` and bias `[out]`.
    pub(crate) fn linear(self, ops: Ops, weight: Tensor, bias: Option<Tensor>) -> Result<Linear> {
        match self {
            Self::Sampling => Linear::frozen(ops, &[weight], bias.as_slice()),
            Self::Training => Ok(Linear::new(ops, weight, bias)),
        }
    }
}

/// The tensors of a source whose names have a common prefix.
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

    /// Returns the tensor `prefix.name`.
    pub(crate) fn get(&self, name: &str) -> Result<Tensor> {
        let tensor = self.source.tensor(&format!("{}.{name}", self.prefix))?;
        Ok(match self.purpose {
            Purpose::Sampling => tensor.detach(),
            Purpose::Training => tensor,
        })
    }

    /// Builds a linear map from `{name}.weight` and, where it has one, `{name}.bias`.
    pub(crate) fn linear(&self, name: &str, has_bias: bool) -> Result<Linear> {
        let bias = has_bias.then(|| self.get(&format!("{name}.bias"))).transpose()?;
        self.purpose.linear(self.ops(), self.get(&format!("{name}.weight"))?, bias)
    }

    /// Builds a norm from `{name}.weight`.
    pub(crate) fn norm(&self, name: &str, eps: f64) -> Result<RmsNorm> {
        Ok(RmsNorm::new(self.ops(), self.get(&format!("{name}.weight"))?, eps))
    }

    pub(crate) fn ops(&self) -> Ops {
        self.source.ops()
    }
}

/// The tensors of a checkpoint, each converted and moved to the device when it is requested.
#[derive(Debug)]
pub struct CheckpointTensors<'a> {
    /// The checkpoint.
    pub weights: &'a Weights,
    /// The dtype to convert to.
    pub dtype: DType,
    /// The device to move to.
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
