//! Qwen2.5-VL and its kin: configuration, weights, image processor, vision and text towers.

pub mod image_processor;
