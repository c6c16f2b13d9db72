//! Linear maps and embeddings: a weight that may be trained, or one packed for the CPU kernels.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::Ops;
use super::storage::{Rows, tensor, vector, with_rows};
use crate::kernels::gemm;
use crate::kernels::packed::PackedMatrix;

const NAME: &str = "linear";

/// A linear map, `y = x Wᵀ + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    ops: Ops,
}

#[derive(Debug, Clone)]
enum Weight {
    /// `[out, in]`; may be a variable.
    Dense(Tensor),
    /// In the layout of the CPU kernels; has no gradient.
    Packed(Arc<PackedMatrix>),
}

impl Weight {
    /// Packs the weight if our CPU kernels will multiply by it; otherwise keeps it unpacked.
    fn frozen(ops: Ops, weight: Tensor) -> Result<Self> {
        if !ops.uses_cpu_kernels_for(&weight) {
            return Ok(Self::Dense(weight));
        }
        with_rows(NAME, &weight.contiguous()?, |rows| {
            let packed = PackedMatrix::pack(rows.contiguous(NAME)?, rows.count, rows.width);
            Ok(Self::Packed(Arc::new(packed)))
        })
    }
}

impl Linear {
    /// Creates a map with weight `[out, in]` and bias `[out]`; gradients reach them.
    pub fn new(ops: Ops, weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: Weight::Dense(weight), bias, ops }
    }

    /// Creates a map for sampling, whose tensors have no gradient. The rows of several weights
    /// `[out, in]` are stacked.
    pub fn frozen(ops: Ops, weights: &[Tensor], biases: &[Tensor]) -> Result<Self> {
        let bias = match biases {
            [] => None,
            [bias] => Some(bias.detach()),
            _ => Some(Tensor::cat(biases, 0)?.detach()),
        };
        let weight = match weights {
            [weight] => weight.detach(),
            _ => Tensor::cat(weights, 0)?.detach(),
        };
        Ok(Self { weight: Weight::frozen(ops, weight)?, bias, ops })
    }

    /// Returns the output projection of a model whose `lm_head.weight` is tied to its embedding.
    pub fn tied(embedding: &Embedding) -> Self {
        Self { weight: embedding.weight.clone(), bias: None, ops: embedding.ops }
    }

    /// Maps `[tokens, in]` to `[tokens, out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let (Weight::Dense(weight), Some(bias)) = (&self.weight, &self.bias)
            && self.ops.uses_gpu_kernels_for(&[x, weight, bias])
        {
            return crate::device::cuda::kernels::linear(x, weight, bias);
        }
        match (&self.weight, &self.bias) {
            (Weight::Packed(weight), bias) => x.apply_op1(PackedProduct { weight: weight.clone(), bias: bias.clone() }),
            (Weight::Dense(weight), Some(bias)) if self.ops.uses_cpu_kernels_for(x) => x.apply_op3(weight, bias, Dense),
            (Weight::Dense(weight), None) if self.ops.uses_cpu_kernels_for(x) => x.apply_op2(weight, Dense),
            (Weight::Dense(weight), Some(bias)) => x.matmul(&weight.t()?)?.broadcast_add(bias),
            (Weight::Dense(weight), None) => x.matmul(&weight.t()?),
        }
    }
}

/// An embedding: rows of a matrix by token id.
#[derive(Debug, Clone)]
pub struct Embedding {
    weight: Weight,
    ops: Ops,
}

impl Embedding {
    /// Creates an embedding with this matrix, `[vocabulary, width]`; gradients reach it.
    pub fn new(ops: Ops, weight: Tensor) -> Self {
        Self { weight: Weight::Dense(weight), ops }
    }

    /// Creates an embedding for sampling, which has no gradient; `packed` if the output projection
    /// shares the matrix.
    pub fn frozen(ops: Ops, weight: &Tensor, packed: bool) -> Result<Self> {
        let weight = weight.detach();
        let weight = if packed { Weight::frozen(ops, weight)? } else { Weight::Dense(weight) };
        Ok(Self { weight, ops })
    }

    /// Looks up `ids` `[tokens]` (u32). Returns `[tokens, width]`.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Dense(weight) if self.ops.uses_cpu_kernels_for(weight) => {
                self.ops.gather(weight, &ids.to_vec1::<u32>()?)
            }
            Weight::Dense(weight) => weight.index_select(ids, 0),
            Weight::Packed(weight) => {
                let ids = ids.to_vec1::<u32>()?;
                let width = weight.inputs();
                let mut rows = vec![0f32; ids.len() * width];
                for (id, row) in ids.iter().zip(rows.chunks_exact_mut(width)) {
                    if *id as usize >= weight.outputs() {
                        bail!("token id {id} is outside the vocabulary of {}", weight.outputs());
                    }
                    weight.copy_row(*id as usize, row);
                }
                Tensor::from_vec(rows, (ids.len(), width), &candle_core::Device::Cpu)
            }
        }
    }
}

fn multiply(x: Rows<'_>, weight: &PackedMatrix, bias: Option<&[f32]>) -> Result<(CpuStorage, Shape)> {
    if x.width != weight.inputs() || bias.is_some_and(|b| b.len() != weight.outputs()) {
        bail!("linear: [{}, {}] does not fit a weight of {} inputs", x.count, x.width, weight.inputs());
    }
    let mut out = vec![0f32; x.count * weight.outputs()];
    gemm::linear(x.data, x.stride, weight, bias, &mut out);
    Ok((CpuStorage::F32(out), Shape::from((x.count, weight.outputs()))))
}

struct PackedProduct {
    weight: Arc<PackedMatrix>,
    bias: Option<Tensor>,
}

impl CustomOp1 for PackedProduct {
    fn name(&self) -> &'static str {
        "linear with a frozen weight"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = Rows::new(NAME, storage, layout)?;
        let Some(bias) = &self.bias else { return multiply(x, &self.weight, None) };
        let (storage, layout) = bias.storage_and_layout();
        match &*storage {
            candle_core::Storage::Cpu(storage) => multiply(x, &self.weight, Some(vector(NAME, storage, layout)?)),
            _ => bail!("linear: the bias is not on the CPU"),
        }
    }
}

/// The product with a weight that is packed at each call: it changes with each training step, and
/// many tokens share the cost.
struct Dense;

impl Dense {
    fn forward(x: Rows<'_>, weight: Rows<'_>, bias: Option<&[f32]>) -> Result<(CpuStorage, Shape)> {
        multiply(x, &PackedMatrix::pack(weight.contiguous(NAME)?, weight.count, weight.width), bias)
    }

    /// Returns the gradients of input and weight, `g W` and `gᵀ x`; `None` for a constant.
    fn backward(x: &Tensor, weight: &Tensor, gradient: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (x_rows, weight_rows) = (x.storage_and_layout(), weight.storage_and_layout());
        let (x_rows, weight_rows) = (Rows::from_tensor(NAME, &x_rows)?, Rows::from_tensor(NAME, &weight_rows)?);
        let (inputs, outputs) = (x_rows.width, weight_rows.count);
        with_rows(NAME, gradient, |g| {
            let dx = match x.track_op() {
                true => {
                    let packed = PackedMatrix::pack_transposed(weight_rows.data, weight_rows.stride, outputs, inputs);
                    let mut dx = vec![0f32; g.count * inputs];
                    gemm::linear(g.data, g.stride, &packed, None, &mut dx);
                    Some(tensor(dx, (g.count, inputs))?)
                }
                false => None,
            };
            let dw = match weight.track_op() {
                true => {
                    let packed = PackedMatrix::pack_transposed(x_rows.data, x_rows.stride, g.count, inputs);
                    let mut dw = vec![0f32; outputs * inputs];
                    gemm::weight_gradient(g.data, g.stride, &packed, &mut dw);
                    Some(tensor(dw, (outputs, inputs))?)
                }
                false => None,
            };
            Ok((dx, dw))
        })
    }
}

impl CustomOp2 for Dense {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        Self::forward(Rows::new(NAME, s1, l1)?, Rows::new(NAME, s2, l2)?, None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Self::backward(x, weight, &gradient.contiguous()?)
    }
}

impl CustomOp3 for Dense {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Self::forward(Rows::new(NAME, s1, l1)?, Rows::new(NAME, s2, l2)?, Some(vector(NAME, s3, l3)?))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (dx, dw) = Self::backward(x, weight, &gradient)?;
        if !bias.track_op() {
            return Ok((dx, dw, None));
        }
        let mut db = vec![0f32; weight.dim(0)?];
        with_rows(NAME, &gradient, |g| {
            gemm::bias_gradient(g.data, g.stride, g.count, &mut db);
            Ok(())
        })?;
        Ok((dx, dw, Some(tensor(db, weight.dim(0)?)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_of_a_bias_sums_the_rows_of_a_view_only() {
        let matrix = |rows: usize, width: usize| {
            let values: Vec<f32> = (0..rows * width).map(|i| i as f32).collect();
            tensor(values, (rows, width)).unwrap()
        };
        let (x, weight) = (matrix(3, 2), matrix(4, 2));
        let bias = candle_core::Var::from_tensor(&tensor(vec![0.0; 4], 4).unwrap()).unwrap();
        let y = Linear::new(Ops::Kernels, weight.clone(), Some(bias.as_tensor().clone())).forward(&x).unwrap();
        // Rows 1 to 3 of five: the rows before and after them are not part of the gradient.
        let gradient = matrix(5, 4).narrow(0, 1, 3).unwrap();
        let (_, _, db) = CustomOp3::bwd(&Dense, &x, &weight, bias.as_tensor(), &y, &gradient).unwrap();
        assert_eq!(db.unwrap().to_vec1::<f32>().unwrap(), gradient.sum(0).unwrap().to_vec1::<f32>().unwrap());
    }
}
