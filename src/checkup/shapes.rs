//! How much is measured: the shapes of an evolution of a 3B or 7B model on a GPU, or small ones that a CPU does in a minute.

use serde::Serialize;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shapes {
    /// The nano model, a few tokens.
    Small,
    /// Qwen2.5-VL-3B and 7B with random weights.
    Full,
}

/// What is done with a model.
pub(super) struct Work {
    /// The name of the model.
    pub(super) model: &'static str,
    /// Its `config.json`, in a checkout.
    pub(super) file: &'static str,
    /// The same, as it was when the program was built.
    pub(super) config: &'static str,
    /// Images that go through the vision tower, and patches along a side of each.
    pub(super) images: usize,
    pub(super) image_side: usize,
    /// Prompts that are prefilled together, and their tokens.
    pub(super) prompts: usize,
    pub(super) prompt_tokens: usize,
    /// Samples that are decoded together, after a prompt of so many tokens, so many tokens each.
    pub(super) batches: &'static [usize],
    /// The one of them that is decoded without our kernels too.
    pub(super) compared_batch: usize,
    pub(super) decoded_tokens: usize,
    /// A training step: groups of responses to a prompt with one image, and their tokens.
    pub(super) groups: usize,
    pub(super) responses: usize,
    pub(super) response_tokens: usize,
    /// Runs of each, beside the first.
    pub(super) runs: usize,
}

const SMALL: [Work; 1] = [Work {
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

const FULL: [Work; 2] = [
    Work {
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
    },
    Work {
        model: "qwen2.5-vl-7b",
        file: "bench/configs/qwen2.5-vl-7b.json",
        config: include_str!("../../bench/configs/qwen2.5-vl-7b.json"),
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
    },
];

impl Shapes {
    pub(super) fn work(self) -> &'static [Work] {
        match self {
            Self::Small => &SMALL,
            Self::Full => &FULL,
        }
    }
}
