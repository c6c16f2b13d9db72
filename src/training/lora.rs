//! LoRA (Hu et al. 2021, arXiv 2106.09685): a frozen weight W is used as `W + alpha / rank * B A`,
//! and only A and B are trained.

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::random::Seed;
use crate::vlm::parameters::{ModelPart, Parameter};

/// Linear layers that can have an adapter, as the checkpoint names them.
pub const TARGETS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
/// File name of an adapter's tensors.
pub const ADAPTER_FILE: &str = "adapter_model.safetensors";
/// File name of an adapter's configuration.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Rank, scale and target layers of an adapter. Only layers of the text tower have adapters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSettings {
    /// Rank of `B A`.
    pub rank: usize,
    /// Numerator of the scale `alpha / rank`.
    pub alpha: f64,
    /// Linear layers with an adapter: a subset of [`TARGETS`].
    pub targets: Vec<String>,
}

impl LoraSettings {
    /// Returns the settings of adapters on all [`TARGETS`].
    pub fn on_all_targets(rank: usize, alpha: f64) -> Self {
        Self { rank, alpha, targets: TARGETS.map(str::to_owned).to_vec() }
    }

    /// Returns the scale of `B A`: `alpha / rank`.
    pub fn factor(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Whether this tensor of the model is a weight with an adapter.
    pub fn covers(&self, parameter: &Parameter) -> bool {
        let map = parameter.name.strip_suffix(".weight").and_then(|name| name.rsplit('.').next());
        let is_target = map.is_some_and(|map| self.targets.iter().any(|target| target == map));
        is_target && matches!(parameter.part, ModelPart::TextLayer(_))
    }
}

/// Returns the names of a weight's A and B in PEFT's files.
pub fn adapter_names(weight: &str) -> [String; 2] {
    // transformers 5 nests the towers below `model`, and PEFT adds its own prefix.
    let weight = weight.strip_suffix(".weight").unwrap_or(weight);
    let nested =
        weight.strip_prefix("model.").map_or_else(|| weight.to_owned(), |rest| format!("language_model.{rest}"));
    ["A", "B"].map(|half| format!("base_model.model.model.{nested}.lora_{half}.weight"))
}

/// Draws a new adapter of a weight `[out, in]`: A `[rank, in]` uniform within `1 / sqrt(in)`, as
/// PEFT initializes it (Kaiming with a = sqrt 5), and B `[out, rank]` zero, so that the model is
/// unchanged.
pub fn init_adapter(parameter: &Parameter, rank: usize, seed: Seed, device: &Device) -> Result<[Tensor; 2]> {
    let (out, input) = (parameter.shape[0], parameter.shape[1]);
    let stream = seed.stream("lora", &parameter.name, 0);
    let bound = 1.0 / (input as f64).sqrt();
    let a: Vec<f32> = (0..rank * input).map(|i| ((2.0 * stream.uniform(i as u64) - 1.0) * bound) as f32).collect();
    let b = Tensor::zeros((out, rank), candle_core::DType::F32, device)?;
    Ok([Tensor::from_vec(a, (rank, input), device)?, b])
}
