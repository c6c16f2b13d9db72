//! Linear layers, forward and backward, with frozen weights, trained weights or LoRA adapters.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use super::buffer_pool::PooledMatrix;
use super::{BufferPool, floats};
use crate::kernels::gemm;
use crate::kernels::packed::PackedMatrix;
use crate::training::gradients::Gradients;
use crate::training::trainable::{DetachedWeights, TrainableModel};
use crate::vlm::named_tensors::NamedTensors;

/// A linear layer `y = x Wᵀ + b`; W `[outputs, inputs]` is rows of the tensor `{name}.weight`.
pub(super) struct LinearMap<'a> {
    weights: &'a TrainableModel,
    name: String,
    weight: Tensor,
    bias: Option<(String, Tensor)>,
    rows: Range<usize>,
    pub(super) inputs: usize,
}

impl<'a> LinearMap<'a> {
    /// Loads the layer `name`, with a bias or without.
    pub(super) fn new(weights: &'a TrainableModel, name: &str, biased: bool) -> Result<Self> {
        let tensor = |name: &str| DetachedWeights(weights).tensor(name)?.contiguous();
        let weight = tensor(&format!("{name}.weight"))?;
        let bias = match biased {
            true => {
                let name = format!("{name}.bias");
                let bias = tensor(&name)?;
                Some((name, bias))
            }
            false => None,
        };
        let rows = weight.dim(0)?;
        let inputs = weight.elem_count() / rows.max(1);
        Ok(Self { weights, name: format!("{name}.weight"), weight, bias, rows: 0..rows, inputs })
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
    pub(super) fn forward(&self, x: &[f32], out: &mut [f32], buffers: &BufferPool) -> Result<()> {
        let weight = floats(&self.weight)?;
        let packed = buffers.pack(&weight[self.elements()], self.outputs(), self.inputs);
        let bias = self.bias.as_ref().map(|(_, bias)| floats(bias)).transpose()?;
        gemm::linear(x, self.inputs, &packed, bias.as_ref().map(|bias| &bias[self.rows.clone()]), out);
        Ok(())
    }

    /// Computes the input's gradient `out = g W`, `[tokens, inputs]`, from the output's, `[tokens,
    /// outputs]`.
    pub(super) fn input_gradient(&self, g: &[f32], out: &mut [f32], buffers: &BufferPool) -> Result<()> {
        let weight = self.transposed(buffers)?;
        gemm::linear(g, self.outputs(), &weight, None, out);
        Ok(())
    }

    /// Adds the input's gradient `g W` to `out`.
    pub(super) fn add_input_gradient(&self, g: &[f32], out: &mut [f32], buffers: &BufferPool) -> Result<()> {
        let weight = self.transposed(buffers)?;
        gemm::add_linear(g, self.outputs(), &weight, out);
        Ok(())
    }

    fn transposed<'b>(&self, buffers: &'b BufferPool) -> Result<PooledMatrix<'b>> {
        let weight = floats(&self.weight)?;
        Ok(buffers.pack_transposed(&weight[self.elements()], self.outputs(), self.inputs))
    }

    /// Whether the weight or its adapter is trained.
    pub(super) fn wants_weight(&self) -> bool {
        self.weights.is_trained(&self.name) || self.weights.adapter(&self.name).is_some()
    }

    /// Adds the gradients of weight `gᵀ x` and bias, or of the adapter, to `gradients`; `x` is the
    /// input as [`pack_input`] returns it.
    pub(super) fn weight_gradient(&self, g: &[f32], x: Option<&PackedMatrix>, gradients: &mut Gradients) -> Result<()> {
        if let Some((name, bias)) = self.bias.as_ref().filter(|(name, _)| self.weights.is_trained(name)) {
            let mut db = vec![0f32; self.outputs()];
            gemm::bias_gradient(g, self.outputs(), g.len() / self.outputs().max(1), &mut db);
            gradients.with_sum(name, bias.shape(), |sum| {
                sum[self.rows.clone()].iter_mut().zip(&db).for_each(|(sum, db)| *sum += db);
            })?;
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

/// Packs the input of layers for their weight gradients; `None` if no weight is trained.
pub(super) fn pack_input<'b>(maps: &[&LinearMap<'_>], x: &[f32], buffers: &'b BufferPool) -> Option<PooledMatrix<'b>> {
    let map = maps.iter().find(|map| map.wants_weight())?;
    Some(buffers.pack_transposed(x, x.len() / map.inputs.max(1), map.inputs))
}
