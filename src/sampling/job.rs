//! What is asked of the engine, and what it gives back.

use std::sync::Arc;

use super::image::ImageInput;
use super::options::{OptionsError, SamplingOptions};
use crate::random::Stream;
use crate::vlm::rope::PlaceholderError;

/// A prompt and the samples wanted of it.
#[derive(Debug)]
pub struct Job {
    /// The caller's number for the prompt.
    pub id: u64,
    /// The prompt.
    pub ids: Vec<u32>,
    /// The images that its placeholders stand for, in order. Prompts about one image share the input.
    pub images: Vec<Arc<ImageInput>>,
    /// One random stream a sample.
    pub streams: Vec<Stream>,
    /// How to draw.
    pub options: Arc<SamplingOptions>,
}

/// Why a sample ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// A stop token or a stop string.
    Stop,
    /// The token limit.
    Length,
}

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its text, without special tokens and without a stop string.
    pub text: String,
    /// Its tokens, a stop token included.
    pub token_ids: Vec<u32>,
    /// Each token's log-probability (see [`super::SampledToken::logprob`]).
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// What came of a job.
#[derive(Debug)]
pub struct Outcome {
    /// The job's number.
    pub id: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// The samples in the order of their streams, or why there are none.
    pub samples: Result<Vec<Sample>, SamplingError>,
}

/// Why a prompt has no samples.
#[derive(Debug, thiserror::Error)]
pub enum SamplingError {
    /// An option is out of its range.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Images and placeholders do not agree.
    #[error(transparent)]
    Placeholders(#[from] PlaceholderError),
    /// There is nothing to go on from.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A token is not in the vocabulary.
    #[error("token {token} of the prompt is outside the vocabulary of {vocabulary}")]
    Vocabulary {
        /// The token.
        token: u32,
        /// Tokens that the model knows.
        vocabulary: usize,
    },
    /// The prompt and one sample are larger than the whole cache.
    #[error("{needed} tokens of prompt and sample do not fit the cache of {room}: raise its memory limit")]
    TooLong {
        /// Tokens needed.
        needed: usize,
        /// Tokens that fit.
        room: usize,
    },
    /// The machine has no room for the cache.
    #[error(
        "the cache of keys and values would take {bytes} bytes, which this machine does not have: lower cache_bytes (--cache-bytes)"
    )]
    CacheMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// The model gave no probabilities.
    #[error("the model's logits are not finite: its weights are damaged")]
    NotFinite,
    /// A tensor operation failed.
    #[error("the model failed: {0}")]
    Model(#[from] candle_core::Error),
    /// Threads cannot be started.
    #[error("cannot start the sampling threads: {0}")]
    Threads(String),
}
