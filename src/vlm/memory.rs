//! How much memory a model will need: for sampling and for layer-wise training, by part, from its configuration alone.
//!
//! Weights, cache, moments and gradients are exact; activations are the largest set of vectors alive at once in the
//! forward pass as it is written (residual stream, the wider of attention's and the SwiGLU's intermediates, logits).

use serde::Serialize;

use super::config::Config;
use super::parameters::{Part, parameters};
use super::safetensors_header::StoredType;

/// Bytes of the numbers that are always kept in 32 bits: activations on a CPU, logits, moments, gradients.
const F32: u64 = 4;

/// How many parameters each part of the model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ParameterCounts {
    /// The linear map from pixels.
    pub patch_embedding: u64,
    /// The vision tower's blocks.
    pub vision_blocks: u64,
    /// From the vision tower to the text tower.
    pub merger: u64,
    /// The embedding matrix.
    pub embedding: u64,
    /// The text tower's blocks.
    pub text_layers: u64,
    /// The last norm.
    pub final_norm: u64,
    /// The output projection; 0 where it is the embedding matrix.
    pub head: u64,
    /// All of them.
    pub total: u64,
}

/// What a batch consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Tokens of a prompt, those of its image included.
    pub prompt_tokens: u64,
    /// Patches of an image (four to an image token).
    pub image_patches: u64,
    /// Tokens of a response.
    pub response_tokens: u64,
    /// Samples that are drawn for a prompt, which share its keys and values.
    pub samples_per_prompt: u64,
}

/// Memory for sampling, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SamplingMemory {
    /// Sequences that run at once.
    pub sequences: u64,
    /// The weights in the computing type.
    pub weights: u64,
    /// Keys and values of all sequences.
    pub kv_cache: u64,
    /// The most that is alive of encoding an image, filling a prompt or decoding a token for every sequence.
    pub activations: u64,
    /// The sum.
    pub total: u64,
}

/// Memory for a layer-wise training step, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TrainingMemory {
    /// Sequences in a micro-batch: those whose graph is alive at once.
    pub sequences: u64,
    /// The weights in the computing type.
    pub weights: u64,
    /// The two moments of AdamW and the accumulated gradient, 32 bits each; and the 32-bit weights where the computing
    /// type is narrower.
    pub optimizer: u64,
    /// The input of every layer, kept for the way back.
    pub layer_inputs: u64,
    /// The graph of the one layer, or the piece of the head, that is being differentiated.
    pub one_layer: u64,
    /// The sum.
    pub total: u64,
}

/// Counts the parameters.
pub fn parameter_counts(config: &Config) -> ParameterCounts {
    let mut counts = ParameterCounts::default();
    for parameter in parameters(config) {
        let part = match parameter.part {
            Part::PatchEmbedding => &mut counts.patch_embedding,
            Part::VisionBlock(_) => &mut counts.vision_blocks,
            Part::Merger => &mut counts.merger,
            Part::Embedding => &mut counts.embedding,
            Part::TextLayer(_) => &mut counts.text_layers,
            Part::FinalNorm => &mut counts.final_norm,
            Part::Head => &mut counts.head,
        };
        *part += parameter.len();
        counts.total += parameter.len();
    }
    counts
}

/// Bytes of the keys and values of one token, all layers.
pub fn kv_bytes_per_token(config: &Config, dtype: StoredType) -> u64 {
    2 * (config.text.num_hidden_layers * config.text.kv_dim() * dtype.size()) as u64
}

/// Memory for sampling `sequences` at once.
pub fn sampling(config: &Config, work: Workload, sequences: u64, dtype: StoredType) -> SamplingMemory {
    let weights = parameter_counts(config).total * dtype.size() as u64;
    let prompts = sequences.div_ceil(work.samples_per_prompt.max(1));
    let cached_tokens = prompts * work.prompt_tokens + sequences * work.response_tokens;
    let kv_cache = cached_tokens * kv_bytes_per_token(config, dtype);
    let vocab = config.text.vocab_size as u64;
    // Decoding: a vector a sequence through the block, then its logits, their probabilities and the sorted candidates.
    let decode = sequences * (block_width(config) + 3 * vocab) * F32;
    let prefill = (work.prompt_tokens * block_width(config) + 3 * vocab) * F32;
    let activations = decode.max(prefill).max(vision_activations(config, work.image_patches));
    SamplingMemory { sequences, weights, kv_cache, activations, total: weights + kv_cache + activations }
}

/// Memory for training the text tower layer by layer on a micro-batch of `sequences`.
pub fn training(config: &Config, work: Workload, sequences: u64, dtype: StoredType) -> TrainingMemory {
    /// Tokens whose logits are alive at once: the head is done in pieces.
    const HEAD_TOKENS: u64 = 256;
    let counts = parameter_counts(config);
    let trained = counts.embedding + counts.text_layers + counts.final_norm + counts.head;
    let weights = counts.total * dtype.size() as u64;
    let copies = if dtype == StoredType::F32 { 3 } else { 4 };
    let optimizer = copies * trained * F32;
    let text = &config.text;
    let tokens = sequences * (work.prompt_tokens + work.response_tokens);
    let hidden = text.hidden_size as u64;
    let layer_inputs = (text.num_hidden_layers as u64 + 1) * tokens * hidden * F32;
    // Scores and probabilities of every head over the sequence, and the vectors of the block with their gradients.
    let length = work.prompt_tokens + work.response_tokens;
    let attention = 4 * tokens * length * text.num_attention_heads as u64;
    let graph = (2 * tokens * (8 * hidden + 4 * text.intermediate_size as u64) + attention) * F32;
    let head = 4 * tokens.min(HEAD_TOKENS) * text.vocab_size as u64 * F32;
    let one_layer = graph.max(head).max(vision_activations(config, work.image_patches));
    let total = weights + optimizer + layer_inputs + one_layer;
    TrainingMemory { sequences, weights, optimizer, layer_inputs, one_layer, total }
}

/// Numbers a token that are alive at once inside a text block: the residual stream and its norm beside the wider of
/// queries, keys, values and their result, or gate, up and their product.
fn block_width(config: &Config) -> u64 {
    let text = &config.text;
    let attention = 2 * text.hidden_size + 2 * text.kv_dim();
    (2 * text.hidden_size + attention.max(3 * text.intermediate_size)) as u64
}

/// Bytes alive while an image is encoded: its pixels, then the same as in a text block, with keys and values as wide as
/// queries; and the merger, whose vectors are four patches long.
fn vision_activations(config: &Config, patches: u64) -> u64 {
    let vision = &config.vision;
    let block = 2 * vision.hidden_size + (4 * vision.hidden_size).max(3 * vision.intermediate_size);
    let embedding = vision.patch_len() + vision.hidden_size;
    let merger = 4 * vision.hidden_size;
    patches * block.max(embedding).max(merger) as u64 * F32
}
