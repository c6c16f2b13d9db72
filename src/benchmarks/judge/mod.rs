//! Judges as text: what published code asks one, how often and how warm, and how it reads replies.
//!
//! Nothing here calls a judge: functions that may ask several times take a function that does.

pub mod hallusion;
pub mod math_verse;
pub mod mm_vet;
pub mod prompt;
mod reply;
pub mod verdict;
pub mod vis_num_bench;
pub mod visplay;

pub use reply::{Calls, Reply};
