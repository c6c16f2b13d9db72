//! Evolutions: the pipeline file that says how one goes.

pub mod pipeline;
