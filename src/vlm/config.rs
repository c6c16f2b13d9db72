//! The configuration of a Qwen2.5-VL checkpoint, `config.json`, in both published layouts.
//!
//! The flat layout has the text tower's keys, `rope_theta` and `rope_scaling: {type: mrope,
//! mrope_section}` at the top level; the nested layout (transformers 5) has `text_config` with
//! `rope_parameters: {rope_theta, rope_type, mrope_section}`. `vision_config` is the same in both.
//! An absent key has transformers' default value, but sizes are required.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use self::reading::read_config;
use super::json_file::{JsonFileError, parse_object, read_object};
use super::json_section::{KeyProblem, Section, indented_list};
use crate::input_kind::describe_instead_of_model;

mod reading;
mod writing;

/// File name in a checkpoint.
pub const CONFIG_FILE: &str = "config.json";
/// Name of the architecture that this module reads.
pub const ARCHITECTURE: &str = "Qwen2_5_VLForConditionalGeneration";
/// The `model_type` that this module reads.
pub const MODEL_TYPE: &str = "qwen2_5_vl";
/// Epsilon of every RMSNorm of the vision tower, a constant in the code of transformers.
pub const VISION_RMS_EPS: f64 = 1e-6;

/// The architecture of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The text tower.
    pub text: TextConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// The placeholder tokens of images.
    pub tokens: VisionTokens,
    /// Whether the output projection is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// Keys without effect on the computation that an export keeps, such as `bos_token_id`.
    pub preserved_keys: Map<String, Value>,
    /// Warnings about values that load but are probably mistakes, in whole sentences.
    pub notes: Vec<String>,
}

/// The text tower: Qwen2 blocks with multimodal rotary positions.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding matrix; at least the tokenizer's tokens.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the SwiGLU.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; `num_attention_heads / num_key_value_heads` query heads share
    /// one.
    pub num_key_value_heads: usize,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Numbers of a head's `head_dim / 2` frequencies that follow time, height and width.
    pub mrope_section: [usize; 3],
    /// Length of the longest sequence that the model supports, in tokens.
    pub max_position_embeddings: usize,
    /// Standard deviation of an initial weight.
    pub initializer_range: f64,
}

/// The vision tower: pre-norm blocks with windowed attention, then the merger.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Number of blocks.
    pub depth: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the SwiGLU.
    pub intermediate_size: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Channels of an image.
    pub in_channels: usize,
    /// Width of the merger's result: the text tower's `hidden_size`.
    pub out_hidden_size: usize,
    /// Pixels along a side of a patch.
    pub patch_size: usize,
    /// Patches along a side of an image token.
    pub spatial_merge_size: usize,
    /// Frames of a patch.
    pub temporal_patch_size: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Pixels along a side of an attention window.
    pub window_size: usize,
    /// Indexes of the blocks that attend over the whole image; the others attend within windows.
    pub fullatt_block_indexes: Vec<usize>,
    /// Used for videos only; an export keeps it.
    pub tokens_per_second: usize,
}

/// The placeholder tokens of images and videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisionTokens {
    /// `<|image_pad|>`, one for each image token.
    pub image: u32,
    /// `<|video_pad|>`.
    pub video: u32,
    /// `<|vision_start|>`.
    pub vision_start: u32,
    /// `<|vision_end|>`.
    pub vision_end: u32,
}

/// A reason why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read, or is not a JSON object.
    #[error(transparent)]
    File(#[from] JsonFileError),
    /// The folder or file is something else than a checkpoint.
    #[error("{} is not a checkpoint: {problem}", path.display())]
    NotACheckpoint {
        /// The folder or file.
        path: PathBuf,
        /// Its kind, and what to do.
        problem: String,
    },
    /// Keys are missing or wrong; lists all of them.
    #[error("{} cannot be used:{}", file.display(), indented_list(problems))]
    Keys {
        /// The file.
        file: PathBuf,
        /// The problems, one per key.
        problems: Vec<KeyProblem>,
    },
}

impl Config {
    /// Reads `config.json` of the checkpoint folder.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        check_is_checkpoint(folder)?;
        Self::load_file(&folder.join(CONFIG_FILE))
    }

    /// Reads a configuration file of any name.
    pub fn load_file(file: &Path) -> Result<Self, ConfigError> {
        Self::from_keys(file, &read_object(file)?)
    }

    /// Reads a configuration from its text; errors name `file`.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::from_keys(file, &parse_object(file, text)?)
    }

    fn from_keys(file: &Path, keys: &Map<String, Value>) -> Result<Self, ConfigError> {
        let problems = RefCell::default();
        let config = read_config(&Section::new("", keys, &problems));
        let problems = problems.into_inner();
        if problems.is_empty() { Ok(config) } else { Err(ConfigError::Keys { file: file.to_owned(), problems }) }
    }
}

/// Checks that a folder is not one of those that are often passed instead of a checkpoint.
///
/// # Errors
/// It is.
pub fn check_is_checkpoint(folder: &Path) -> Result<(), ConfigError> {
    match describe_instead_of_model(folder) {
        Some(problem) => Err(ConfigError::NotACheckpoint { path: folder.to_owned(), problem }),
        None => Ok(()),
    }
}

impl TextConfig {
    /// Returns the width of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Returns the width of all keys, or all values, of a token.
    pub fn kv_dim(&self) -> usize {
        self.num_key_value_heads * self.head_dim()
    }

    /// Returns the number of multiply-adds in the linear maps for one token, which decides whether
    /// threads share the work on a token.
    pub fn multiply_adds_per_token(&self) -> usize {
        let layer = self.hidden_size * (2 * self.hidden_size + 2 * self.kv_dim() + 3 * self.intermediate_size);
        self.num_hidden_layers * layer + self.vocab_size * self.hidden_size
    }
}

impl VisionConfig {
    /// Returns the width of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads
    }

    /// Returns the number of values in a patch: channels x frames x height x width.
    pub fn patch_len(&self) -> usize {
        self.in_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Returns the number of patches in an image token.
    pub fn merge_unit(&self) -> usize {
        self.spatial_merge_size * self.spatial_merge_size
    }

    /// Returns the number of image tokens along a side of an attention window.
    pub fn window_tokens(&self) -> usize {
        self.window_size / self.spatial_merge_size / self.patch_size
    }

    /// Whether a block attends over the whole image.
    pub fn is_full_attention(&self, block: usize) -> bool {
        self.fullatt_block_indexes.contains(&block)
    }
}
