//! Linear maps and embeddings: a weight that may be trained, or one packed for the CPU kernels.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::Ops;
use super::row_kernel::{CpuOp, RowKernel};
use super::storage::{Rows, with_rows};
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
        let is_cpu = self.ops.uses_cpu_kernels_for(x);
        match (&self.weight, &self.bias) {
            (Weight::Packed(weight), bias) => {
                x.apply_op1(CpuOp(PackedProduct { weight: weight.clone(), bias: bias.clone() }))
            }
            (Weight::Dense(weight), Some(bias)) if is_cpu => x.apply_op3(weight, bias, CpuOp(Dense)),
            (Weight::Dense(weight), None) if is_cpu => x.apply_op2(weight, CpuOp(Dense)),
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

fn multiply(x: Rows<'_>, weight: &PackedMatrix, bias: Option<Rows<'_>>) -> Result<(Vec<f32>, (usize, usize))> {
    if x.width != weight.inputs() || bias.is_some_and(|b| b.width != weight.outputs()) {
        bail!("linear: [{}, {}] does not fit a weight of {} inputs", x.count, x.width, weight.inputs());
    }
    let mut out = vec![0f32; x.count * weight.outputs()];
    gemm::linear(x.data, x.stride, weight, bias.map(|b| b.contiguous(NAME)).transpose()?, &mut out);
    Ok((out, (x.count, weight.outputs())))
}

struct PackedProduct {
    weight: Arc<PackedMatrix>,
    bias: Option<Tensor>,
}

impl RowKernel<1> for PackedProduct {
    const NAME: &'static str = "linear with a frozen weight";

    fn forward(&self, [x]: [Rows<'_>; 1]) -> Result<(Vec<f32>, (usize, usize))> {
        match &self.bias {
            Some(bias) => with_rows(NAME, bias, |bias| multiply(x, &self.weight, Some(bias))),
            None => multiply(x, &self.weight, None),
        }
    }
}

/// The product with a weight that is packed at each call: it changes with each training step, and
/// many tokens share the cost.
struct Dense;

impl RowKernel<2> for Dense {
    const NAME: &'static str = NAME;

    fn forward(&self, [x, weight]: [Rows<'_>; 2]) -> Result<(Vec<f32>, (usize, usize))> {
        multiply(x, &PackedMatrix::pack(weight.contiguous(NAME)?, weight.count, weight.width), None)
    }

    /// Returns the gradients of input and weight, `g W` and `gᵀ x`.
    fn backward(&self, [x, weight]: [Rows<'_>; 2], g: Rows<'_>, wanted: [bool; 2]) -> Result<[Option<Vec<f32>>; 2]> {
        let dx = wanted[0].then(|| {
            let packed = PackedMatrix::pack_transposed(weight.data, weight.stride, weight.count, weight.width);
            let mut dx = x.zeros();
            gemm::linear(g.data, g.stride, &packed, None, &mut dx);
            dx
        });
        let dw = wanted[1].then(|| {
            let packed = PackedMatrix::pack_transposed(x.data, x.stride, x.count, x.width);
            let mut dw = weight.zeros();
            gemm::weight_gradient(g.data, g.stride, &packed, &mut dw);
            dw
        });
        Ok([dx, dw])
    }
}

impl RowKernel<3> for Dense {
    const NAME: &'static str = NAME;

    fn forward(&self, [x, weight, bias]: [Rows<'_>; 3]) -> Result<(Vec<f32>, (usize, usize))> {
        multiply(x, &PackedMatrix::pack(weight.contiguous(NAME)?, weight.count, weight.width), Some(bias))
    }

    fn backward(&self, inputs: [Rows<'_>; 3], g: Rows<'_>, wanted: [bool; 3]) -> Result<[Option<Vec<f32>>; 3]> {
        let [x, weight, bias] = inputs;
        let [dx, dw] = self.backward([x, weight], g, [wanted[0], wanted[1]])?;
        let db = wanted[2].then(|| {
            let mut db = bias.zeros();
            gemm::bias_gradient(g.data, g.stride, g.count, &mut db);
            db
        });
        Ok([dx, dw, db])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::CustomOp3;

    use super::*;
    use crate::vlm::ops::storage::tensor;

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
        let (_, _, db) = CustomOp3::bwd(&CpuOp(Dense), &x, &weight, bias.as_tensor(), &y, &gradient).unwrap();
        assert_eq!(db.unwrap().to_vec1::<f32>().unwrap(), gradient.sum(0).unwrap().to_vec1::<f32>().unwrap());
    }
}
