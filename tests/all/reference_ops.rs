//! The tests of the model's arithmetic once more with candle's operations (`Ops::Reference`)
//! instead of our kernels.
//!
//! A GPU uses these operations wherever we have no kernel for it, so these tests check its
//! arithmetic on machines without a GPU.

// The same files are modules of `main.rs`, where they test our kernels.
#![allow(clippy::duplicate_mod)]

use visplay::vlm::ops::Ops;

/// The implementation of the ops under test.
const OPS: Ops = Ops::Reference;

#[path = "greedy.rs"]
mod greedy;
#[path = "model_gradients.rs"]
mod model_gradients;
#[path = "model_parity.rs"]
mod model_parity;
#[path = "op_gradients.rs"]
mod op_gradients;
#[path = "sampling.rs"]
mod sampling;
#[path = "training_adamw.rs"]
mod training_adamw;
#[path = "training_gradients.rs"]
mod training_gradients;
#[path = "training_lora.rs"]
mod training_lora;
