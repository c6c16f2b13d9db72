//! Rounds of self-play training: the pipeline file, the plan of a round, and the code that runs it.
//!
//! ```text
//! images --questions(Q)--> questions --answers(S, m)--> answers, votes --update(Q)--> Q'  x steps
//! images --questions(Q')--> questions --answers(S, m)--> votes --curriculum--> curriculum
//! curriculum --answers(S, G)--> answers --update(S)--> S'                                 x steps
//! benchmarks --evaluation(S')--> predictions, scores
//! ```
//!
//! A round is a function of the store and the pipeline file. It runs its stages in order, and a
//! stage whose results are stored returns them without computing anything. An interrupted round
//! therefore resumes where it stopped, and nothing here records its progress.

mod audit;
mod boxes;
mod branch;
mod context;
mod error;
mod evolve;
mod finished;
mod gates;
mod keep_best;
pub mod pipeline;
mod plan;
mod publish;
mod replay;
mod report;
mod round;
mod round_state;
mod seeds;
mod settings;
mod slices;
mod stopped_round;
mod stored_inputs;
mod training;
mod under_way;

pub use self::audit::{Audit, Inconsistency, audit, curriculum_truth};
pub use self::boxes::{BeforeAndAfter, BoxedShares, boxed_shares};
pub use self::branch::{BranchRequest, BranchResult, branch};
pub use self::context::{EvolutionContext, PinnedInputs, Roles};
pub use self::error::{EvolutionError, Result};
pub use self::evolve::evolve_round;
pub use self::finished::{
    CurrentRound, FinishedRound, StageTime, TABLES as ROUND_TABLES, current_round, finished_round, next_round,
    read_report, ref_name,
};
pub use self::gates::{GateResult, GateVerdict, QuestionStatistics, ThresholdSide, VoteStatistics, label_gate};
pub use self::plan::{PlannedPart, part_of, plan};
pub use self::replay::{
    ReplayReport, ReplayRequest, ReplayTarget, ReplayedResult, RoundPart, nearest_differences, replay,
};
pub use self::report::{KeepBestScore, RoundReport, ScoreChange, TrainingSummary};
pub use self::under_way::{RoundUnderWay, announce_round, claim_evolution, rounds_under_way, withdraw_round};
