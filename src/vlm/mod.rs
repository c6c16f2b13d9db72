//! The vision-language model: Qwen2.5-VL and MiMo-VL, as Hugging Face transformers computes them.
//!
//! A checkpoint folder holds a configuration ([`config`]), weights ([`weights`]), a tokenizer
//! ([`tokenizer`]) and the settings of an image processor ([`image_processor`]). [`vision`] turns
//! an image's patches into image tokens, [`text`] turns text tokens and image tokens into logits,
//! and [`model`] joins the two.

pub mod checkpoint;
mod checkpoint_files;
pub mod config;
mod conversation;
pub mod conversion;
pub mod export;
mod export_error;
pub mod grid;
pub mod image_processor;
mod json_file;
mod json_section;
pub mod mapped;
pub mod memory;
pub mod model;
pub mod named_tensors;
pub mod ops;
pub mod parameters;
mod projections;
pub mod prompt;
pub mod rope;
pub mod safetensors_header;
pub mod safetensors_writer;
pub mod tensor_source;
pub mod text;
mod token_text;
pub mod tokenizer;
pub mod vision;
pub mod weights;
mod weights_error;

pub use checkpoint_files::{INDEX_FILE, SINGLE_FILE};
pub use json_file::JsonFileError;
pub use json_section::KeyProblem;
