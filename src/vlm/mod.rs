//! Qwen2.5-VL and MiMo-VL, as Hugging Face transformers computes them: configuration, weights, tokens and towers.

mod checkpoint_files;
pub mod config;
pub mod conversion;
pub mod export;
mod json_file;
mod json_section;
pub mod mapped;
pub mod memory;
pub mod parameters;
pub mod prompt;
pub mod safetensors_header;
pub mod safetensors_writer;
pub mod tensor_source;
mod token_text;
pub mod tokenizer;
pub mod weights;

pub use checkpoint_files::{INDEX_FILE, SINGLE_FILE};
pub use json_file::JsonFileError;
pub use json_section::KeyProblem;
