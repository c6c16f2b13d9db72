//! The eight published benchmarks: prompts, extraction, scoring and figures, by the protocols that
//! people quote.
//!
//! One benchmark has up to four protocols ([`Protocol`]) that share its items, but not prompts,
//! extraction or figures. Everything here is a pure function of items, responses and a seed: no
//! model, no file and no network.
//!
//! | step | file |
//! |---|---|
//! | names of the benchmarks | `name.rs` |
//! | items and their ids | `item.rs`, `question_options.rs` |
//! | protocols and their settings | `protocol.rs` |
//! | rows of files, as items | `files/` |
//! | prompts | `prompt/` |
//! | answers that rules read out of responses | `extract/` |
//! | replies of judges | `judge/` |
//! | the outcome of an item | `outcome.rs` |
//! | figures over items | `figures/` |
//! | published scorers by name, for comparison | `scorer.rs` |
//!
//! The rules repeat what published Python programs do, faults included. `python/` and
//! `latex_value.rs` hold the behaviour of Python and sympy that they depend on.

pub mod extract;
pub mod figures;
pub mod files;
mod item;
pub mod judge;
pub mod latex_value;
mod name;
mod outcome;
pub mod prompt;
mod protocol;
pub mod python;
pub mod question_options;
pub mod random_letter;
mod scorer;

pub use item::{BenchmarkItem, Labels, QuestionKind};
pub use name::Benchmark;
pub use outcome::{Finish, Outcome, Reason, RuleSettings, Verdict, score_response};
pub use protocol::{PixelBudget, PreStep, Protocol, ProtocolSettings, Rule};
pub use scorer::{CaseError, Scorer};
