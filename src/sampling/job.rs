//! Jobs and outcomes of the sampling engine.

use std::sync::Arc;

use super::image::ImageInput;
use super::options::{OptionsError, SamplingOptions};
use crate::random::Stream;
use crate::vlm::rope::PlaceholderError;

/// A prompt, the random streams of the samples to draw for it, and the sampling options.
#[derive(Debug)]
pub struct Job {
    /// Number of the job, chosen by the caller.
    pub id: u64,
    /// Token ids of the prompt.
    pub ids: Vec<u32>,
    /// Images of the prompt's image placeholders, in order. Prompts about one image share it.
    pub images: Vec<Arc<ImageInput>>,
    /// Random stream of each sample.
    pub streams: Vec<Stream>,
    /// Sampling options.
    pub options: Arc<SamplingOptions>,
}

/// Reason why a sample ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// A stop token or a stop string.
    Stop,
    /// The token limit.
    Length,
}

/// One sample.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Sample {
    /// Text, without special tokens and without a stop string.
    pub text: String,
    /// Token ids, including a stop token.
    pub token_ids: Vec<u32>,
    /// Log-probability of each token (see [`super::SampledToken::logprob`]).
    pub logprobs: Vec<f32>,
    /// Reason why it ended.
    pub finish_reason: FinishReason,
}

/// The result of a job.
#[derive(Debug)]
pub struct Outcome {
    /// Number of the job.
    pub id: u64,
    /// Number of tokens of the prompt.
    pub prompt_tokens: usize,
    /// Samples in the order of their streams, or the error.
    pub samples: Result<Vec<Sample>>,
}

/// The result of a part of sampling.
pub type Result<T, E = SamplingError> = std::result::Result<T, E>;

/// An error of a job or of the engine.
#[derive(Debug, thiserror::Error)]
pub enum SamplingError {
    /// A sampling option is out of range.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The images do not match the image placeholders of the prompt.
    #[error(transparent)]
    Placeholders(#[from] PlaceholderError),
    /// The prompt has no tokens.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A token is outside the vocabulary.
    #[error("token {token} of the prompt is outside the vocabulary of {vocabulary}")]
    Vocabulary {
        /// The token.
        token: u32,
        /// Size of the model's vocabulary.
        vocabulary: usize,
    },
    /// The prompt with one sample does not fit the KV cache.
    #[error(
        "prompt and sample take {needed} tokens of KV cache, which has {capacity}; raise cache_bytes (--cache-bytes)"
    )]
    TooLong {
        /// Tokens needed, rounded up to whole blocks.
        needed: usize,
        /// Tokens that fit the cache.
        capacity: usize,
    },
    /// The KV cache does not fit in memory.
    #[error("not enough memory for a KV cache of {bytes} bytes; lower cache_bytes (--cache-bytes)")]
    CacheMemory {
        /// Requested bytes.
        bytes: usize,
    },
    /// The model's logits are not finite.
    #[error("the model's logits are not finite: its weights are damaged")]
    NotFinite,
    /// A tensor operation failed.
    #[error("the model failed: {0}")]
    Model(#[from] candle_core::Error),
    /// Threads cannot be started.
    #[error("cannot start the sampling threads: {0}")]
    Threads(String),
}
