//! Sources of the tensors of a checkpoint to write: another checkpoint, memory, or random numbers.

use std::collections::BTreeMap;
use std::io::Write;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use super::conversion::{Number, numbers, stored_bytes};
use super::export_error::ExportError;
use super::parameters::Parameter;
use super::safetensors_header::StoredType;
use super::weights::Weights;
use crate::random::Seed;

/// Numbers converted at a time while writing: few compared with a large tensor.
const PIECE: usize = 1 << 22;

/// A source of every tensor of a model, one after the other.
pub trait TensorSource {
    /// Returns the dtype that a tensor has here; it is written in it unless another is requested.
    fn stored_type(&self, parameter: &Parameter) -> Result<StoredType, ExportError>;

    /// Writes the elements of a tensor as `dtype`, little endian, row by row.
    fn write(&self, parameter: &Parameter, dtype: StoredType, out: &mut dyn Write) -> Result<(), ExportError>;
}

/// The tensors of another checkpoint.
impl TensorSource for Weights {
    fn stored_type(&self, parameter: &Parameter) -> Result<StoredType, ExportError> {
        Ok(self.raw(&parameter.name)?.dtype)
    }

    fn write(&self, parameter: &Parameter, dtype: StoredType, out: &mut dyn Write) -> Result<(), ExportError> {
        let raw = self.raw(&parameter.name)?;
        for piece in raw.bytes.chunks(PIECE * raw.dtype.size()) {
            if raw.dtype == dtype {
                out.write_all(piece)?;
            } else {
                out.write_all(&stored_bytes(&numbers::<f32>(piece, raw.dtype), dtype))?;
            }
        }
        self.release(&parameter.name);
        Ok(())
    }
}

/// Tensors in memory, such as those of a trained model, by the names of
/// [`parameters`](super::parameters::parameters).
impl TensorSource for BTreeMap<String, Tensor> {
    fn stored_type(&self, parameter: &Parameter) -> Result<StoredType, ExportError> {
        match self.get(&parameter.name).map(Tensor::dtype) {
            Some(DType::F32) => Ok(StoredType::F32),
            Some(DType::BF16) => Ok(StoredType::BF16),
            Some(DType::F16) => Ok(StoredType::F16),
            Some(other) => Err(ExportError::Tensor(parameter.name.clone(), format!("cannot be stored as {other:?}"))),
            None => Err(ExportError::Tensor(parameter.name.clone(), "is missing".to_owned())),
        }
    }

    fn write(&self, parameter: &Parameter, dtype: StoredType, out: &mut dyn Write) -> Result<(), ExportError> {
        match self.get(&parameter.name) {
            Some(tensor) => write_tensor(tensor, parameter, dtype, out),
            None => Err(ExportError::Tensor(parameter.name.clone(), "is missing".to_owned())),
        }
    }
}

/// Writes a tensor on any device as `dtype`.
pub(crate) fn write_tensor(
    tensor: &Tensor,
    parameter: &Parameter,
    dtype: StoredType,
    out: &mut dyn Write,
) -> Result<(), ExportError> {
    let wrong = |problem: String| ExportError::Tensor(parameter.name.clone(), problem);
    if tensor.dims() != parameter.shape {
        return Err(wrong(format!("has shape {:?}, not {:?}", tensor.dims(), parameter.shape)));
    }
    let read = || -> candle_core::Result<Vec<u8>> {
        let flat = tensor.to_device(&Device::Cpu)?.flatten_all()?;
        Ok(match flat.dtype() {
            DType::BF16 => stored_bytes(&flat.to_vec1::<bf16>()?, dtype),
            DType::F16 => stored_bytes(&flat.to_vec1::<f16>()?, dtype),
            _ => stored_bytes(&flat.to_vec1::<f32>()?, dtype),
        })
    };
    out.write_all(&read().map_err(|e| wrong(e.to_string()))?)?;
    Ok(())
}

/// Random weights, for benchmarks and tests: norms are one, everything else is uniform with the
/// standard deviation of the configuration's `initializer_range`. A seed gives the same numbers in
/// every dtype, up to rounding.
#[derive(Debug, Clone, Copy)]
pub struct RandomTensors {
    /// Seed of the random numbers.
    pub seed: Seed,
    /// The dtype to write.
    pub dtype: StoredType,
    /// The standard deviation.
    pub deviation: f64,
}

impl TensorSource for RandomTensors {
    fn stored_type(&self, _: &Parameter) -> Result<StoredType, ExportError> {
        Ok(self.dtype)
    }

    fn write(&self, parameter: &Parameter, dtype: StoredType, out: &mut dyn Write) -> Result<(), ExportError> {
        let is_norm = parameter.shape.len() == 1 && !parameter.name.ends_with(".bias");
        let len = parameter.shape.iter().product::<usize>();
        for start in (0..len).step_by(PIECE) {
            let count = PIECE.min(len - start);
            let piece = if is_norm { vec![1.0; count] } else { self.uniform(&parameter.name, start, count) };
            out.write_all(&stored_bytes(&piece, dtype))?;
        }
        Ok(())
    }
}

impl RandomTensors {
    /// Returns the elements `start..start + count` of a tensor, 16 random bits each; `start` is a
    /// multiple of 32.
    fn uniform(&self, name: &str, start: usize, count: usize) -> Vec<f32> {
        const CHUNK: usize = 1 << 15;
        /// Numbers in a block of the stream.
        const BLOCK: usize = 32;
        let stream = self.seed.stream("random weights", name, 0);
        // A uniform number on an interval of width w has the standard deviation w / sqrt(12).
        let width = self.deviation * 12f64.sqrt();
        let mut out = vec![0f32; count];
        out.par_chunks_mut(CHUNK).enumerate().for_each(|(i, out)| {
            let mut bits = vec![0u8; 2 * out.len()];
            stream.fill(((start + i * CHUNK) / BLOCK) as u64, &mut bits);
            for (number, pair) in out.iter_mut().zip(bits.as_chunks::<2>().0) {
                let middle = (f64::from(u16::from_le_bytes(*pair)) + 0.5) / 65_536.0 - 0.5;
                *number = f32::from_f32((middle * width) as f32);
            }
        });
        out
    }
}
