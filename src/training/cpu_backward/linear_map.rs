//! Linear layers, forward and backward, with frozen weights, trained weights or LoRA adapters.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use super::BufferPool;
use crate::kernels::gemm;
use crate::kernels::packed::PackedMatrix;
use crate::training::floats::{add_to, floats};
use crate::training::gradients::Gradients;
use crate::training::trainable::{DetachedWeights, TrainableModel};
use crate::vlm::named_tensors::NamedTensors;

/// A linear layer `y = x Wᵀ + b`; W `[outputs, inputs]` is rows of the tensor `{name}.weight`.
pub(super) struct LinearMap<'a> {
    weights: &'a TrainableModel,
    buffers: &'a BufferPool,
    name: String,
    weight: Tensor,
    bias: Option<(Tensor, String)>,
    rows: Range<usize>,
    pub(super) inputs: usize,
}

impl<'a> LinearMap<'a> {
    /// Loads the layer `name`, with a bias or without.
    pub(super) fn new(weights: &'a TrainableModel, buffers: &'a BufferPool, name: &str, biased: bool) -> Result<Self> {
        let load = |name: &str| DetachedWeights(weights).tensor(name)?.contiguous();
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        let weight = load(&weight_name)?;
        let bias = if biased { Some((load(&bias_name)?, bias_name)) } else { None };
        let rows = weight.dim(0)?;
        let inputs = weight.elem_count() / rows.max(1);
        Ok(Self { weights, buffers, name: weight_name, weight, bias, rows: 0..rows, inputs })
    }

    /// Returns the layer of part `i` of `parts` of the outputs.
    pub(super) fn split(self, i: usize, parts: usize) -> Self {
        let width = self.rows.len() / parts;
        Self { rows: i * width..(i + 1) * width, ..self }
    }

    pub(super) fn outputs(&self) -> usize {
        self.rows.len()
    }

    fn elements(&self) -> Range<usize> {
        self.rows.start * self.inputs..self.rows.end * self.inputs
    }

    /// Computes `out = x Wᵀ + b`: `[tokens, inputs]` to `[tokens, outputs]`.
    pub(super) fn forward(&self, x: &[f32], out: &mut [f32]) -> Result<()> {
        let weight = floats(&self.weight)?;
        let packed = self.buffers.pack(&weight[self.elements()], self.outputs(), self.inputs);
        let bias = self.bias.as_ref().map(|(bias, _)| floats(bias)).transpose()?;
        gemm::linear(x, self.inputs, &packed, bias.as_ref().map(|bias| &bias[self.rows.clone()]), out);
        Ok(())
    }

    /// Whether the weight or its adapter is trained.
    fn wants_weight(&self) -> bool {
        self.weights.is_trained(&self.name) || self.weights.adapter(&self.name).is_some()
    }

    /// Adds the gradients of weight `gᵀ x` and bias, or of the adapter, to `gradients`; `x` is the
    /// input, packed.
    fn weight_gradient(&self, g: &[f32], x: Option<&PackedMatrix>, gradients: &mut Gradients) -> Result<()> {
        if let Some((bias, name)) = self.bias.as_ref().filter(|(_, name)| self.weights.is_trained(name)) {
            let mut db = vec![0f32; self.outputs()];
            gemm::bias_gradient(g, self.outputs(), g.len() / self.outputs().max(1), &mut db);
            gradients.with_sum(name, bias.shape(), |sum| add_to(&mut sum[self.rows.clone()], &db))?;
        }
        let Some(x) = x else { return Ok(()) };
        if self.weights.is_trained(&self.name) {
            return gradients.with_sum(&self.name, self.weight.shape(), |sum| {
                gemm::add_weight_gradient(g, self.outputs(), x, &mut sum[self.elements()]);
            });
        }
        let Some(adapter) = self.weights.adapter(&self.name) else { return Ok(()) };
        // With W + f B A and G its gradient: the gradient of A is f Bᵀ G, that of B is f G Aᵀ.
        let mut change = vec![0f32; self.outputs() * self.inputs];
        gemm::weight_gradient(g, self.outputs(), x, &mut change);
        let change = (Tensor::from_vec(change, (self.outputs(), self.inputs), &Device::Cpu)? * adapter.factor)?;
        let [(a_name, a), (b_name, b)] = adapter.halves;
        let (a, b) = (a.as_detached_tensor(), b.as_detached_tensor());
        gradients.add(a_name, b.t()?.matmul(&change)?)?;
        gradients.add(b_name, change.matmul(&a.t()?)?)
    }
}

/// Adds the gradients of layers that share the input `x`, given those of their outputs, to
/// `gradients`.
pub(super) fn weight_gradients(
    layers: &[(&LinearMap<'_>, &[f32])],
    x: &[f32],
    gradients: &mut Gradients,
) -> Result<()> {
    let trained = layers.iter().find(|(map, _)| map.wants_weight());
    let packed = trained.map(|(map, _)| map.buffers.pack_transposed(x, x.len() / map.inputs.max(1), map.inputs));
    layers.iter().try_for_each(|(map, g)| map.weight_gradient(g, packed.as_deref(), gradients))
}

/// Computes the gradient of the input that layers share: `out` is the sum of `g W` over the layers,
/// `[tokens, inputs]`, with g the gradients of their outputs.
pub(super) fn input_gradient(layers: &[(&LinearMap<'_>, &[f32])], out: &mut [f32]) -> Result<()> {
    for (i, (map, g)) in layers.iter().enumerate() {
        let weight = floats(&map.weight)?;
        let transposed = map.buffers.pack_transposed(&weight[map.elements()], map.outputs(), map.inputs);
        match i {
            0 => gemm::linear(g, map.outputs(), &transposed, None, out),
            _ => gemm::add_linear(g, map.outputs(), &transposed, out),
        }
    }
    Ok(())
}
