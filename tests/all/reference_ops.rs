//! The tests of the model's arithmetic once more with candle's operations (`Ops::Reference`)
//! instead of our kernels.
//!
//! A GPU computes by these operations wherever it has no kernel of ours, so on a machine without
//! one these tests show that its arithmetic is right.

use visplay::vlm::ops::Ops;

/// The implementation of the ops that the tests below compute by.
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
