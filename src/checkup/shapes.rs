//! Sizes of the measured workloads: those of a 3B and a 7B model on a GPU, or small ones that take
//! a CPU a minute.

use serde::Serialize;

/// Size of the measured workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shapes {
    /// The nano model with a few tokens.
    Small,
    /// Qwen2.5-VL-3B and 7B with random weights.
    Full,
}

/// Workload of one model.
pub(super) struct Workload {
    /// Name of the model.
    pub(super) model: &'static str,
    /// Path of its `config.json` in a checkout.
    pub(super) file: &'static str,
    /// Content of that file when the program was built.
    pub(super) config: &'static str,
    /// Number of images for the vision tower.
    pub(super) images: usize,
    /// Patches along each side of an image.
    pub(super) image_side: usize,
    /// Number of prompts that are prefilled together.
    pub(super) prompts: usize,
    /// Tokens per prompt.
    pub(super) prompt_tokens: usize,
    /// Batch sizes for decoding.
    pub(super) batches: &'static [usize],
    /// Batch size that is also decoded without our kernels.
    pub(super) compared_batch: usize,
    /// Tokens decoded per sample.
    pub(super) decoded_tokens: usize,
    /// Groups per training step, each with one prompt and one image.
    pub(super) groups: usize,
    /// Responses per group.
    pub(super) responses: usize,
    /// Tokens per response.
    pub(super) response_tokens: usize,
    /// Number of timed runs after a warm-up.
    pub(super) runs: usize,
}

const SMALL: [Workload; 1] = [Workload {
    model: "nano",
    file: "bench/configs/nano.json",
    config: include_str!("../../bench/configs/nano.json"),
    images: 4,
    image_side: 8,
    prompts: 4,
    prompt_tokens: 48,
    batches: &[1, 8],
    compared_batch: 8,
    decoded_tokens: 8,
    groups: 2,
    responses: 4,
    response_tokens: 16,
    runs: 1,
}];

const FULL_3B: Workload = Workload {
    model: "qwen2.5-vl-3b",
    file: "bench/configs/qwen2.5-vl-3b.json",
    config: include_str!("../../bench/configs/qwen2.5-vl-3b.json"),
    images: 64,
    image_side: 16,
    prompts: 8,
    prompt_tokens: 128,
    batches: &[1, 32, 128, 256],
    compared_batch: 128,
    decoded_tokens: 64,
    groups: 8,
    responses: 8,
    response_tokens: 256,
    runs: 3,
};

const FULL: [Workload; 2] = [
    FULL_3B,
    Workload {
        model: "qwen2.5-vl-7b",
        file: "bench/configs/qwen2.5-vl-7b.json",
        config: include_str!("../../bench/configs/qwen2.5-vl-7b.json"),
        ..FULL_3B
    },
];

impl Shapes {
    pub(super) fn workloads(self) -> &'static [Workload] {
        match self {
            Self::Small => &SMALL,
            Self::Full => &FULL,
        }
    }
}
