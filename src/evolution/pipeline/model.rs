//! `[model]` and `[prompts]`: the base model, its computation, and the prompts.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::section;
use crate::device::DeviceChoice;
use crate::imaging::PixelBudget;
use crate::vlm::ops::Ops;

section! {
    /// The base model and its computation.
    pub struct Model {
        /// The base checkpoint: a folder in the Hugging Face layout.
        pub base: PathBuf = PathBuf::from("../data/nano"),
        /// The dtype that models compute in.
        pub dtype: ComputeDtype = ComputeDtype::F32,
        /// The device that models compute on: auto (a GPU if this build and machine have one, else
        /// the CPU), cpu, cuda, or cuda:N with the number of a GPU. `--device` takes precedence.
        pub device: DeviceChoice = DeviceChoice::Auto,
        /// Minimum number of pixels that an image is resized to; 0 takes the checkpoint's.
        pub min_pixels: u64 = 0,
        /// Maximum number of pixels that an image is resized to; 0 takes the checkpoint's.
        pub max_pixels: u64 = 0,
        /// Memory for preprocessed images, in bytes; beyond it images are preprocessed again when
        /// needed.
        pub image_memory: u64 = 2 << 30,
        /// The implementation of the ops that models compute by. The device checks set it, a
        /// pipeline file cannot: it is not part of an action's key.
        #[serde(skip)]
        pub ops: Ops = Ops::Kernels,
    }
}

/// A dtype of model computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// 32-bit floating point.
    F32,
    /// bfloat16: 16 bits with the exponent range of f32.
    Bf16,
    /// 16-bit floating point.
    F16,
}

impl ComputeDtype {
    /// Converts to the dtype of tensors.
    pub fn dtype(self) -> candle_core::DType {
        match self {
            Self::F32 => candle_core::DType::F32,
            Self::Bf16 => candle_core::DType::BF16,
            Self::F16 => candle_core::DType::F16,
        }
    }
}

impl Model {
    /// Returns the image size limits; `None` for those of the checkpoint.
    pub fn pixels(&self) -> Option<PixelBudget> {
        (self.max_pixels > 0).then_some(PixelBudget { min_pixels: self.min_pixels, max_pixels: self.max_pixels })
    }
}

section! {
    /// The prompts of both roles: paths of template files.
    pub struct Prompts {
        /// The Questioner's prompt.
        pub questioner: PathBuf = "prompts/nano-questioner.txt".into(),
        /// The Reasoner's prompt.
        pub reasoner: PathBuf = "prompts/nano-reasoner.txt".into(),
    }
}
