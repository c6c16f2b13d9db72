//! LoRA (Hu et al. 2021, arXiv 2106.09685): linear maps trained through `W + alpha / rank * B A`.

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::random::Seed;
use crate::vlm::parameters::{Parameter, Part};

/// The linear maps that adapters can be put on, as the checkpoint names them.
pub const TARGETS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
/// The name of the file with an adapter's tensors.
pub const ADAPTER_FILE: &str = "adapter_model.safetensors";
/// The name of the file that describes an adapter.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Which maps of the text tower get an adapter, and how large it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSettings {
    /// Width of the adapter.
    pub rank: usize,
    /// The adapter's factor is `alpha / rank`.
    pub alpha: f64,
    /// Some of [`TARGETS`].
    pub targets: Vec<String>,
}

impl LoraSettings {
    /// The factor on `B A`.
    pub fn factor(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Whether a tensor of the model is a weight with an adapter.
    pub fn covers(&self, parameter: &Parameter) -> bool {
        matches!(parameter.part, Part::TextLayer(_)) && self.covers_name(&parameter.name)
    }

    fn covers_name(&self, name: &str) -> bool {
        let map = name.strip_suffix(".weight").and_then(|name| name.rsplit_once('.'));
        map.is_some_and(|(_, map)| self.targets.iter().any(|target| target == map))
    }
}

/// The names of an adapter's A and B for a weight, as PEFT names them.
pub fn adapter_names(weight: &str) -> [String; 2] {
    // transformers 5 nests the towers below `model`; PEFT puts its own prefix before.
    let weight = weight.strip_suffix(".weight").unwrap_or(weight);
    let nested =
        weight.strip_prefix("model.").map_or_else(|| weight.to_owned(), |rest| format!("language_model.{rest}"));
    ["A", "B"].map(|half| format!("base_model.model.model.{nested}.lora_{half}.weight"))
}

/// A fresh adapter of a weight `[out, in]`: A `[rank, in]` uniform as PEFT draws it (Kaiming with a = sqrt 5, that is within
/// `1 / sqrt(in)`), B `[out, rank]` zero, so that nothing changes yet.
pub fn fresh(parameter: &Parameter, rank: usize, seed: Seed, device: &Device) -> Result<[Tensor; 2]> {
    let (out, input) = (parameter.shape[0], parameter.shape[1]);
    let stream = seed.stream("lora", &parameter.name, 0);
    let bound = 1.0 / (input as f64).sqrt();
    let a: Vec<f32> = (0..rank * input).map(|i| ((2.0 * stream.uniform(i as u64) - 1.0) * bound) as f32).collect();
    let b = Tensor::zeros((out, rank), candle_core::DType::F32, device)?;
    Ok([Tensor::from_vec(a, (rank, input), device)?, b])
}
