//! Random weights, created on the device, for measurements that do not depend on the values.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Shape, Tensor, bail};

use crate::random::Seed;
use crate::vlm::config::Config;
use crate::vlm::named_tensors::NamedTensors;
use crate::vlm::ops::Ops;
use crate::vlm::parameters::{Parameter, parameters};

/// Number of random values; a larger tensor repeats them.
const VALUES: usize = 1 << 20;

/// Returns a tensor of uniform random numbers with this standard deviation.
pub(super) fn uniform(shape: impl Into<Shape>, deviation: f64, dtype: DType, device: &Device) -> Result<Tensor> {
    uniform_for("uniform", shape, deviation, dtype, device)
}

/// Returns a tensor like [`uniform`], with different numbers for each label.
pub(super) fn uniform_for(
    label: &str,
    shape: impl Into<Shape>,
    deviation: f64,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let shape = shape.into();
    let count = shape.elem_count().clamp(1, VALUES);
    let stream = Seed(0).stream("checkup", label, 0);
    let width = deviation * 12f64.sqrt();
    let numbers: Vec<f32> = (0..count as u64).map(|i| ((stream.uniform(i) - 0.5) * width) as f32).collect();
    let piece = Tensor::from_vec(numbers, count, device)?.to_dtype(dtype)?;
    let times = shape.elem_count().div_ceil(count);
    if times <= 1 {
        return piece.narrow(0, 0, shape.elem_count())?.reshape(shape);
    }
    let repeated = piece.unsqueeze(0)?.broadcast_as((times, count))?.contiguous()?.flatten_all()?;
    repeated.narrow(0, 0, shape.elem_count())?.contiguous()?.reshape(shape)
}

/// Random tensors of a model: norms are 1, all other weights uniform.
pub(super) struct RandomWeights<'a> {
    parameters: BTreeMap<String, Parameter>,
    deviation: f64,
    dtype: DType,
    device: &'a Device,
    ops: Ops,
}

impl<'a> RandomWeights<'a> {
    pub(super) fn new(config: &Config, dtype: DType, device: &'a Device, ops: Ops) -> Self {
        let parameters = parameters(config).into_iter().map(|parameter| (parameter.name.clone(), parameter)).collect();
        Self { parameters, deviation: config.text.initializer_range, dtype, device, ops }
    }
}

impl NamedTensors for RandomWeights<'_> {
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let Some(parameter) = self.parameters.get(name) else { bail!("there is no tensor {name}") };
        let is_norm = parameter.shape.len() == 1 && !name.ends_with(".bias");
        match is_norm {
            true => Tensor::ones(parameter.shape.as_slice(), self.dtype, self.device),
            false => uniform(parameter.shape.as_slice(), self.deviation, self.dtype, self.device),
        }
    }

    fn ops(&self) -> Ops {
        self.ops
    }
}
