//! Consistency of a round's tables: every id resolves, sample numbers are complete, and every value
//! that follows from other rows does so. Pure functions of rows; each inconsistency names its row.

mod report;
mod samples;
mod training;

pub use self::report::{ConsistencyReport, Inconsistency};
pub use self::samples::{VotingSetup, predictions, questions, votes};
pub use self::training::{RewardSetup, metrics, questioner_step, reasoner_step};
