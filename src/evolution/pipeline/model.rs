//! `[model]` and `[prompts]`: what the evolution starts from.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::DeviceChoice;
use crate::imaging::PixelBudget;
use crate::vlm::ops::Ops;

/// The base model and how it computes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// The base checkpoint: a folder in the Hugging Face layout.
    pub base: PathBuf,
    /// The number format that sampling computes in.
    pub dtype: ComputeDtype,
    /// Where models compute: auto (a card where this build and this machine have one, else the CPU), cpu, cuda, or cuda:N with the
    /// number of a card. `--device` goes before it.
    pub device: DeviceChoice,
    /// An image is resized to at least this many pixels; 0: as the checkpoint says.
    pub min_pixels: u64,
    /// An image is resized to at most this many pixels; 0: as the checkpoint says.
    pub max_pixels: u64,
    /// Memory for images that are cut into patches, in bytes; beyond it they are cut again.
    pub image_memory: u64,
    /// The implementation of the ops that models compute by. The device checks set it, a pipeline file cannot: it is not
    /// part of an action's key.
    #[serde(skip)]
    pub ops: Ops,
}

impl Default for Model {
    fn default() -> Self {
        let (base, dtype) = (PathBuf::from("../data/nano"), ComputeDtype::F32);
        Self {
            base,
            dtype,
            device: DeviceChoice::Auto,
            min_pixels: 0,
            max_pixels: 0,
            image_memory: 2 << 30,
            ops: Ops::Kernels,
        }
    }
}

/// A number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// 32 bits.
    F32,
    /// 16 bits with the exponent of f32.
    Bf16,
    /// 16 bits.
    F16,
}

impl ComputeDtype {
    /// As tensors name it.
    pub fn dtype(self) -> candle_core::DType {
        match self {
            Self::F32 => candle_core::DType::F32,
            Self::Bf16 => candle_core::DType::BF16,
            Self::F16 => candle_core::DType::F16,
        }
    }
}

impl Model {
    /// The image limits; `None`: those of the checkpoint.
    pub fn pixels(&self) -> Option<PixelBudget> {
        (self.max_pixels > 0).then_some(PixelBudget { min_pixels: self.min_pixels, max_pixels: self.max_pixels })
    }
}

/// The prompts of both roles: template files, relative to the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prompts {
    /// What the Questioner is told.
    pub questioner: PathBuf,
    /// What the Reasoner is told.
    pub reasoner: PathBuf,
}

impl Default for Prompts {
    fn default() -> Self {
        let [questioner, reasoner] =
            ["questioner", "reasoner"].map(|role| PathBuf::from(format!("prompts/nano-{role}.txt")));
        Self { questioner, reasoner }
    }
}
