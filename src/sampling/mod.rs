//! Batched generation: many prompts, many samples a prompt.
//!
//! The vision tower runs once an image, a prompt is prefilled once and its samples share its keys and values, the
//! batch is kept full as samples finish, and the cache is allocated once. A sample is a function of the model, its
//! prompt, its options and its own random stream: batch size, order, neighbours and threads change nothing. On a CPU
//! in f32 that holds to the last bit, log-probabilities included, because every sum in [`crate::kernels`] has a fixed
//! order; on a GPU the matrix products choose their order by shape, and it holds up to rounding.

mod blocks;
mod engine;
mod image;
mod in_order;
mod job;
mod lane;
mod options;
mod pick;
mod pick_on_device;
mod score;
mod stopping;

pub use engine::{Engine, EngineOptions};
pub use image::ImageInput;
pub use job::{FinishReason, Job, Outcome, Sample, SamplingError};
pub use options::{OptionsError, SamplingOptions};
pub use pick::{Picked, pick};
pub use score::{most_likely, score};
