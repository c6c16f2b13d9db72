//! Batched generation: many prompts, many samples a prompt.
//!
//! The vision tower runs once an image, a prompt is prefilled once and its samples share its keys and values, the
//! batch is kept full as samples finish, and the cache is allocated once. A sample is a function of the model, its
//! prompt, its options and its own random stream: batch size, order, neighbours and threads change nothing. On a CPU
//! in f32 that holds to the last bit, log-probabilities included, because every sum in [`crate::kernels`] has a fixed
//! order; on a GPU the matrix products choose their order by shape, and it holds up to rounding.

mod batch_worker;
mod block_pool;
mod engine;
mod image;
mod job;
mod options;
mod partial_sample;
mod sample_on_device;
mod sample_token;
mod score;
mod ticket_queue;

pub use engine::{Engine, EngineOptions};
pub use image::ImageInput;
pub use job::{FinishReason, Job, Outcome, Sample, SamplingError};
pub use options::{OptionsError, SamplingOptions};
pub use sample_token::{SampledToken, sample_token};
pub use score::{argmax_tokens, score};
