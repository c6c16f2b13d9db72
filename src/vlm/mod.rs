//! Qwen2.5-VL and MiMo-VL, as Hugging Face transformers computes them: configuration, weights, tokens and towers.

pub mod config;
mod json_section;
pub mod mapped;
pub mod safetensors_header;
