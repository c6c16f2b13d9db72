//! Checks that a round's tables are consistent: every id resolves, sample numbers are complete, and
//! every derived value equals the one recomputed from other rows. Pure functions of rows; each
//! inconsistency names its row.

mod report;
mod samples;
mod training;

pub use self::report::{ConsistencyReport, Inconsistency};
pub use self::samples::{VotingSetup, check_predictions, check_questions, check_votes};
pub use self::training::{RewardSetup, check_metrics, check_questioner_step, check_reasoner_step};
