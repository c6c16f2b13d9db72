//! How much memory a model will need: for sampling and for layer-wise training, by part, from its configuration alone.
//!
//! Weights, cache, moments and gradients are exact; activations are the largest set of vectors alive at once in the
//! forward pass as it is written (residual stream, the wider of attention's and the SwiGLU's intermediates, logits). The
//! program's own memory was measured. `docs/checkpoints.md` holds predictions beside what processes took.

use serde::Serialize;

use super::config::Config;
use super::parameters::{ModelPart, parameters};
use super::safetensors_header::StoredType;

/// Bytes of the numbers that are always kept in 32 bits: activations on a CPU, logits, moments, gradients.
const F32: u64 = 4;
/// The program without a model: code, tokenizer, stacks of threads (the resident memory of a process with the nano model, less the
/// model).
const PROGRAM: u64 = 21_000_000;

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
    /// The program itself.
    pub program: u64,
    /// The weights in the computing type.
    pub weights: u64,
    /// What laying out the largest matrix takes while the weights are loaded, before anything is sampled.
    pub loading: u64,
    /// Keys and values of all sequences.
    pub kv_cache: u64,
    /// The most that is alive of encoding an image, filling a prompt or decoding a token for every sequence.
    pub activations: u64,
    /// Program and weights, and the larger of what loading and what sampling takes.
    pub total: u64,
}

/// What training keeps beside the weights, the gradients and the activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingMemoryOptions {
    /// What AdamW's two moments are kept in.
    pub moments: StoredType,
    /// Whether the weights of before are kept too, for the divergence from them.
    pub reference: bool,
}

/// Memory for a layer-wise training step, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TrainingMemory {
    /// Sequences in a micro-batch: those whose graph is alive at once.
    pub sequences: u64,
    /// The program itself.
    pub program: u64,
    /// The weights in the computing type.
    pub weights: u64,
    /// The two moments of AdamW; the accumulated gradient, 32 bits; and the 32-bit weights where the computing type is
    /// narrower.
    pub optimizer: u64,
    /// The weights that the divergence is measured from, in the computing type.
    pub reference: u64,
    /// The input of every layer of both towers, kept for the way back.
    pub layer_inputs: u64,
    /// What is alive of the one layer, or the piece of the head, that is being differentiated.
    pub one_layer: u64,
    /// Freed activations that the allocator keeps.
    pub freed: u64,
    /// The sum.
    pub total: u64,
}

/// Counts the parameters.
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
    let loading = loading(config) * dtype.size() as u64;
    let total = PROGRAM + weights + loading.max(kv_cache + activations);
    SamplingMemory { sequences, program: PROGRAM, weights, loading, kv_cache, activations, total }
}

/// Numbers that are alive twice or more while the largest matrix is laid out: the two halves of the SwiGLU's input as they
/// were stored and stacked, or an output projection of its own as it was stored.
fn loading(config: &Config) -> u64 {
    let text = &config.text;
    let head = if config.tie_word_embeddings { 0 } else { text.vocab_size };
    (text.hidden_size * head.max(4 * text.intermediate_size)) as u64
}

/// Memory for training all weights layer by layer (one layer's graph at a time) on micro-batches of `sequences`, each with its
/// own prompt and image.
pub fn training(
    config: &Config,
    work: Workload,
    sequences: u64,
    dtype: StoredType,
    state: TrainingMemoryOptions,
) -> TrainingMemory {
    /// Logits that are alive at once, and their gradients, or of how many targets: the head is done in pieces.
    const LOGITS: u64 = 1 << 22;
    const TARGETS: u64 = 128;
    /// Numbers of the projection that are laid out at once.
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
        // On the way back through the SwiGLU, whose gradients take its inputs' place: its result laid out.
        (rows * kept as u64, rows * (kept + ffn + hidden) as u64)
    };
    let (kept, text_back) = block(tokens, text.hidden_size, text.kv_dim(), text.intermediate_size);
    let (_, vision_back) = block(patches, vision.hidden_size, vision.hidden_size, vision.intermediate_size);
    // A part of the projection is laid out, and has logits of its own, beside what the last layer keeps.
    let vocabulary = text.vocab_size as u64;
    let logits = LOGITS.max(TARGETS * vocabulary).min(sequences * work.response_tokens * vocabulary);
    let slice = SLICE.min(vocabulary * hidden);
    let head = kept + slice + 2 * logits + logits * slice / (vocabulary * hidden);
    let one_layer = text_back.max(vision_back).max(head) * F32;
    // What the allocator and the pool of buffers keep: measured, three eighths of what is alive.
    let freed = 3 * (layer_inputs + one_layer) / 8;
    let total = PROGRAM + weights + optimizer + reference + layer_inputs + one_layer + freed;
    TrainingMemory { sequences, program: PROGRAM, weights, optimizer, reference, layer_inputs, one_layer, freed, total }
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
