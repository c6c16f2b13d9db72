//! Rewards of both roles, the diversity penalty with its clusters, confidence, the difficulty
//! filter, and the presets.
//!
//! Pure functions on plain data, so the rewards of a stored step can be recomputed with other
//! settings, without a model.
//!
//! | equation (VisPlay, arXiv 2511.15661) | file |
//! |---|---|
//! | confidence c = majority / samples | `confidence.rs` |
//! | uncertainty reward r_unc = 1 - \|2c - 1\| | `questioner.rs` |
//! | diversity penalty r_div = λ · cluster / scope | `questioner.rs`, `clusters.rs`, `bleu.rs` |
//! | Questioner reward r = valid · max(0, r_unc - r_div) | `questioner.rs` |
//! | Reasoner reward r = 1 if the answer equals the pseudo-label | `reasoner.rs` |
//! | difficulty filter τ_low <= c <= τ_high | `difficulty.rs` |
//! | GRPO's advantage and loss | `training/grpo` |

mod bleu;
mod clusters;
mod confidence;
mod difficulty;
mod output;
mod preset;
mod questioner;
mod reasoner;

pub use clusters::{ClusterError, Clusters, MAX_QUESTIONS, MERGE_BELOW};
pub use confidence::{Denominator, confidence, margin};
pub use difficulty::{DifficultySettings, DropReason, filter_question};
pub use output::{OutputForm, ParsedQuestion, ParsingMode, TYPES, parse_output};
pub use preset::{Preset, PresetError};
pub use questioner::{
    DiversityScope, QuestionOutcome, QuestionerReward, QuestionerSettings, RewardFormula, questioner_rewards,
};
pub use reasoner::{ReasonerReward, ReasonerSettings, reasoner_reward};
