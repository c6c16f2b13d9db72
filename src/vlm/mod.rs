//! Qwen2.5-VL and MiMo-VL, as Hugging Face transformers computes them: configuration, weights, tokens and towers.

pub mod cache;
pub mod config;
pub mod grid;
mod json_section;
pub mod mapped;
pub mod model;
pub mod ops;
pub mod parameters;
pub mod rope;
pub mod safetensors_header;
pub mod text;
pub mod vision;
