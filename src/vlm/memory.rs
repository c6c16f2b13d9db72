//! Estimates of the memory for sampling and for layer-wise training, by part, from a model's
//! configuration alone.
//!
//! Weights, KV cache, moments and gradients are exact; activations are the largest set of vectors
//! in memory at the same time in this program's forward pass (residual stream, the wider of
//! attention's and the SwiGLU's intermediates, logits). The program's own memory was measured.
//! `docs/checkpoints.md` compares estimates with the memory that processes took.

use serde::Serialize;

use super::config::Config;
use super::parameters::{ModelPart, parameters};
use super::safetensors_header::StoredType;

/// Bytes of a number that always has 32 bits: activations on a CPU, logits, moments, gradients.
const F32: u64 = 4;
/// Bytes of the program without a model: code, tokenizer, stacks of threads. Measured as the
/// resident memory of a process with the nano model, minus the model.
const PROGRAM: u64 = 21_000_000;

/// Numbers of parameters by part of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ParameterCounts {
    /// The linear map from pixels.
    pub patch_embedding: u64,
    /// The vision tower's blocks.
    pub vision_blocks: u64,
    /// The merger of the vision tower.
    pub merger: u64,
    /// The embedding matrix.
    pub embedding: u64,
    /// The text tower's blocks.
    pub text_layers: u64,
    /// The norm before the output projection.
    pub final_norm: u64,
    /// The output projection; 0 where it is the embedding matrix.
    pub head: u64,
    /// The sum of all parts.
    pub total: u64,
}

/// Sizes of the prompts and responses that memory is estimated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Tokens of a prompt, including those of its image.
    pub prompt_tokens: u64,
    /// Patches of an image (four per image token).
    pub image_patches: u64,
    /// Tokens of a response.
    pub response_tokens: u64,
    /// Samples per prompt, which share the prompt's keys and values.
    pub samples_per_prompt: u64,
}

/// Memory for sampling, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SamplingMemory {
    /// Sequences that run at once.
    pub sequences: u64,
    /// The program itself.
    pub program: u64,
    /// The weights in the compute dtype.
    pub weights: u64,
    /// Packing the largest matrix while the weights are loaded, before anything is sampled.
    pub loading: u64,
    /// The KV cache of all sequences.
    pub kv_cache: u64,
    /// Activations: the largest of encoding an image, prefilling a prompt and decoding a token for
    /// every sequence.
    pub activations: u64,
    /// Program and weights, plus the larger of loading and sampling.
    pub total: u64,
}

/// Memory that training needs besides weights, gradients and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingMemoryOptions {
    /// The dtype of AdamW's two moments.
    pub moments: StoredType,
    /// Whether a reference policy is kept in memory, for the KL term.
    pub reference: bool,
}

/// Memory for a layer-wise training step, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TrainingMemory {
    /// Sequences in a micro-batch, whose graphs are alive at once.
    pub sequences: u64,
    /// The program itself.
    pub program: u64,
    /// The weights in the compute dtype.
    pub weights: u64,
    /// The two moments of AdamW, the accumulated gradient in 32 bits, and the 32-bit weights where
    /// the compute dtype is narrower.
    pub optimizer: u64,
    /// The weights of the reference policy in the compute dtype.
    pub reference: u64,
    /// The input of every layer of both towers, kept for the backward pass.
    pub layer_inputs: u64,
    /// Activations and gradients of the layer, or the piece of the head, in its backward pass.
    pub one_layer: u64,
    /// Freed activations that the allocator keeps.
    pub freed: u64,
    /// The sum.
    pub total: u64,
}

/// Counts the parameters of each part.
pub fn parameter_counts(config: &Config) -> ParameterCounts {
    let mut counts = ParameterCounts::default();
    for parameter in parameters(config) {
        let part = match parameter.part {
            ModelPart::PatchEmbedding => &mut counts.patch_embedding,
            ModelPart::VisionBlock(_) => &mut counts.vision_blocks,
            ModelPart::Merger => &mut counts.merger,
            ModelPart::Embedding => &mut counts.embedding,
            ModelPart::TextLayer(_) => &mut counts.text_layers,
            ModelPart::FinalNorm => &mut counts.final_norm,
            ModelPart::Head => &mut counts.head,
        };
        *part += parameter.elements();
        counts.total += parameter.elements();
    }
    counts
}

/// Returns the size of the keys and values of one token in all layers, in bytes.
pub fn kv_bytes_per_token(config: &Config, dtype: StoredType) -> u64 {
    2 * (config.text.num_hidden_layers * config.text.kv_dim() * dtype.size()) as u64
}

/// Estimates the memory for sampling `sequences` at once.
pub fn sampling(config: &Config, work: Workload, sequences: u64, dtype: StoredType) -> SamplingMemory {
    let weights = parameter_counts(config).total * dtype.size() as u64;
    let prompts = sequences.div_ceil(work.samples_per_prompt.max(1));
    let cached_tokens = prompts * work.prompt_tokens + sequences * work.response_tokens;
    let kv_cache = cached_tokens * kv_bytes_per_token(config, dtype);
    let vocab = config.text.vocab_size as u64;
    // Decoding: a vector per sequence through the block, then its logits, their probabilities and
    // the sorted candidates.
    let decode = sequences * (block_width(config) + 3 * vocab) * F32;
    let prefill = (work.prompt_tokens * block_width(config) + 3 * vocab) * F32;
    let activations = decode.max(prefill).max(vision_activations(config, work.image_patches));
    let loading = loading_copies(config) * dtype.size() as u64;
    let total = PROGRAM + weights + loading.max(kv_cache + activations);
    SamplingMemory { sequences, program: PROGRAM, weights, loading, kv_cache, activations, total }
}

/// Returns the number of weights that exist twice while the largest matrix is packed: the two
/// halves of the SwiGLU's input as stored and stacked, or an untied output projection as stored.
fn loading_copies(config: &Config) -> u64 {
    let text = &config.text;
    let head = if config.tie_word_embeddings { 0 } else { text.vocab_size };
    (text.hidden_size * head.max(4 * text.intermediate_size)) as u64
}

/// Estimates the memory for training all weights with activation checkpointing (one layer's graph
/// alive at a time) on micro-batches of `sequences`, each with its own prompt and image.
pub fn training(
    config: &Config,
    work: Workload,
    sequences: u64,
    dtype: StoredType,
    state: TrainingMemoryOptions,
) -> TrainingMemory {
    /// Logits in memory at a time, and as many gradients, or the targets that they belong to:
    /// the head runs in pieces.
    const LOGITS: u64 = 1 << 22;
    const TARGETS: u64 = 128;
    /// Weights of the output projection that are packed at once.
    const SLICE: u64 = 1 << 21;
    let counts = parameter_counts(config);
    let weights = counts.total * dtype.size() as u64;
    let master = if dtype == StoredType::F32 { 0 } else { F32 };
    let optimizer = counts.total * (2 * state.moments.size() as u64 + F32 + master);
    let reference = if state.reference { weights } else { 0 };
    let (text, vision) = (&config.text, &config.vision);
    let tokens = sequences * (work.prompt_tokens + work.response_tokens);
    let patches = sequences * work.image_patches;
    let (hidden, vision_hidden) = (text.hidden_size as u64, vision.hidden_size as u64);
    let text_inputs = (text.num_hidden_layers as u64 + 1) * tokens * hidden;
    let vision_inputs = patches * (vision.patch_len() as u64 + (vision.depth as u64 + 1) * vision_hidden);
    let layer_inputs = (text_inputs + vision_inputs) * F32;
    let block = |rows: u64, hidden: usize, kv: usize, ffn: usize| {
        let kept = 6 * hidden + 2 * kv + 3 * ffn;
        // In the SwiGLU's backward pass, whose gradients overwrite its inputs: its packed result.
        (rows * kept as u64, rows * (kept + ffn + hidden) as u64)
    };
    let (kept, text_back) = block(tokens, text.hidden_size, text.kv_dim(), text.intermediate_size);
    let (_, vision_back) = block(patches, vision.hidden_size, vision.hidden_size, vision.intermediate_size);
    // A packed part of the output projection and its logits, beside the last layer's activations.
    let vocabulary = text.vocab_size as u64;
    let logits = LOGITS.max(TARGETS * vocabulary).min(sequences * work.response_tokens * vocabulary);
    let slice = SLICE.min(vocabulary * hidden);
    let head = kept + slice + 2 * logits + logits * slice / (vocabulary * hidden);
    let one_layer = text_back.max(vision_back).max(head) * F32;
    // Memory that the allocator and the pool of buffers keep: three eighths of the live memory, as
    // measured.
    let freed = 3 * (layer_inputs + one_layer) / 8;
    let total = PROGRAM + weights + optimizer + reference + layer_inputs + one_layer + freed;
    TrainingMemory { sequences, program: PROGRAM, weights, optimizer, reference, layer_inputs, one_layer, freed, total }
}

/// Numbers per token in memory at the same time inside a text block: the residual stream and its
/// norm, and the wider of queries, keys, values and their result, or gate, up and their product.
fn block_width(config: &Config) -> u64 {
    let text = &config.text;
    let attention = 2 * text.hidden_size + 2 * text.kv_dim();
    (2 * text.hidden_size + attention.max(3 * text.intermediate_size)) as u64
}

/// Bytes alive while an image is encoded: its pixels, then as in a text block with keys and values
/// as wide as queries, then the merger, whose vectors are as long as four patches.
fn vision_activations(config: &Config, patches: u64) -> u64 {
    let vision = &config.vision;
    let block = 2 * vision.hidden_size + (4 * vision.hidden_size).max(3 * vision.intermediate_size);
    let embedding = vision.patch_len() + vision.hidden_size;
    let merger = 4 * vision.hidden_size;
    patches * block.max(embedding).max(merger) as u64 * F32
}
