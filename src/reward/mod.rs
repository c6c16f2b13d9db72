//! Rewards of both roles, the clusters they need, the difficulty filter, and the presets that set their numbers.
//!
//! Pure functions on plain data: what a step stored can be scored again under other settings, without a model.

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
pub use difficulty::{DifficultySettings, DropReason, keep};
pub use output::{OutputForm, ParsedQuestion, ParsingMode, TYPES, parse_output};
pub use preset::{Preset, PresetError};
pub use questioner::{
    DiversityScope, QuestionOutcome, QuestionerReward, QuestionerSettings, RewardFormula, questioner_rewards,
};
pub use reasoner::{ReasonerReward, ReasonerSettings, reasoner_reward};
