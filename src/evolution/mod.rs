//! The evolution: pipeline file -> plan of a round -> run it.
//!
//! ```text
//! images --questions(Q)--> questions --answers(S, m)--> answers, votes --update(Q)--> Q'      x steps
//! images --questions(Q')--> questions --answers(S, m)--> votes --curriculum--> curriculum
//! curriculum --answers(S, G)--> answers --update(S)--> S'                                     x steps
//! benchmarks --evaluation(S')--> predictions, scores
//! ```
//!
//! A round is a function of the store and the pipeline file. It asks every stage for what it needs in order, and a stage that has
//! its results gives them: so a stopped round goes on where it was, and nothing here remembers how far it came.

mod audit;
mod branch;
mod done;
mod error;
mod evolve;
mod found;
mod gates;
mod ground;
mod keep_best;
pub mod pipeline;
mod plan;
mod publish;
mod replay;
mod report;
mod round;
mod settings;
mod slices;
mod stopped;
mod training;

pub use self::audit::{Audit, Misaligned, audit, curriculum_truth};
pub use self::branch::{Branch, Branched, branch};
pub use self::done::{Current, Done, PhaseTime, current_round, done_round, next_round, read_report, ref_name};
pub use self::error::EvolutionError;
pub use self::evolve::evolve_round;
pub use self::gates::{Checked, QuestionFigures, Side, Verdict, VoteFigures, label_gate};
pub use self::ground::{Footing, Ground, Roles};
pub use self::plan::{PlannedPart, part_of, plan};
pub use self::replay::{Part, Replay, ReplayRequest, ReplayTarget, Replayed, nearest_differences, replay};
pub use self::report::{KeepBest, RoundReport, ScoreChange, TrainingFigures};
pub use self::settings::{SettingChange, changes, settings_of};
