//! Limits of a device, measured with simple operations: copies and products of square matrices.

use candle_core::{DType, Device};
use serde::Serialize;

use super::random_weights::uniform;
use super::{Result, Shapes, median_seconds};
use crate::vlm::ops::{Linear, Ops};

/// Measured limits of a device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes read and written per second while copying a large tensor.
    pub copy_bytes: f64,
    /// Floating-point operations per second of square matrix products in f32.
    pub f32_operations: f64,
    /// Floating-point operations per second in bf16; `None` on a CPU, which has no bf16 kernels.
    pub bf16_operations: Option<f64>,
}

impl Limits {
    /// Returns the operations per second for a dtype.
    pub(super) fn operations(&self, dtype: DType) -> f64 {
        self.bf16_operations.filter(|_| dtype == DType::BF16).unwrap_or(self.f32_operations)
    }
}

pub(super) fn measure(device: &Device, shapes: Shapes) -> Result<Limits> {
    let (copied, side, runs) = match shapes {
        Shapes::Small => (1 << 22, 512, 3),
        Shapes::Full => (1 << 28, 8192, 10),
    };
    let x = uniform((copied / 1024, 1024), 1.0, DType::F32, device)?;
    let copy = median_seconds(device, runs, || x.copy().map(drop))?;
    drop(x);
    let product = |dtype| -> Result<f64> {
        let [a, b] = [uniform((side, side), 1.0, dtype, device)?, uniform((side, side), 1.0, dtype, device)?];
        let map = Linear::frozen(Ops::Kernels, &[b], &[])?;
        let took = median_seconds(device, runs, || map.forward(&a).map(drop))?;
        Ok(2.0 * (side as f64).powi(3) / took)
    };
    Ok(Limits {
        copy_bytes: 2.0 * copied as f64 * DType::F32.size_in_bytes() as f64 / copy,
        f32_operations: product(DType::F32)?,
        bf16_operations: if device.is_cpu() { None } else { Some(product(DType::BF16)?) },
    })
}
