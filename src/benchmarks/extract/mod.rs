//! Extraction: the answer that a published rule reads out of a response, and its verdict.
//!
//! | rule | file | where it comes from |
//! |---|---|---|
//! | `vlmevalkit-choice` | `choice_vlmevalkit.rs` | VLMEvalKit, letters |
//! | `mmmu-official-choice` | `choice_mmmu.rs` | MMMU, letters |
//! | `lmmseval-choice` | `choice_lmmseval.rs` | lmms-eval, letters |
//! | `mmstar-official` | `choice_mmstar.rs` | MMStar, the first character |
//! | `visplay-choice` | `choice_visplay.rs` | our own, letters |
//! | `mmmu-official-open` | `open_mmmu.rs` | MMMU, words and numbers |
//! | `vlmevalkit-yesno` | `yes_no.rs` | VLMEvalKit, yes and no |
//! | `mathv-official` | `math_vision.rs` | MATH-Vision |
//! | `vlmevalkit-mathv` | `math_vlmevalkit.rs` | VLMEvalKit, MATH-Vision |
//! | `visplay-rule` | `boxed_visplay.rs` | VisPlay, without its judge |
//! | `lmmseval-realworldqa` | `realworldqa.rs` | lmms-eval, letters or the whole text |
//!
//! The rules say what the published code says, faults included; `docs/benchmarks.md` names the
//! faults. Each is a pure function of the response and the item.

pub mod boxed_visplay;
pub mod choice_lmmseval;
pub mod choice_mmmu;
pub mod choice_mmstar;
pub mod choice_visplay;
pub mod choice_vlmevalkit;
pub mod math_vision;
pub mod math_vlmevalkit;
pub mod open_mmmu;
mod options;
pub mod pre_step;
pub mod realworldqa;
pub mod yes_no;

pub use options::Options;
