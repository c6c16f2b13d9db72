//! The tests of the model's arithmetic once more, by the operations that a card computes by: on a machine without a card they show
//! that what runs on one is right, but for the card's own kernels.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod arithmetic;
#[path = "../all/greedy.rs"]
mod greedy;
#[path = "../all/model_gradients.rs"]
mod model_gradients;
#[path = "../all/model_parity.rs"]
mod model_parity;
#[path = "../all/op_gradients.rs"]
mod op_gradients;
#[path = "../all/sampling.rs"]
mod sampling;
#[path = "../all/training_adamw.rs"]
mod training_adamw;
#[path = "../all/training_gradients.rs"]
mod training_gradients;
#[path = "../all/training_lora.rs"]
mod training_lora;
