//! Presets: named settings of the method.
//!
//! `paper` and `released-code` are tables of `presets.toml`. To add a preset that only changes
//! numbers, add a table there.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::confidence::Denominator;
use super::difficulty::DifficultySettings;
use super::questioner::QuestionerSettings;
use super::reasoner::ReasonerSettings;

/// Presets included in the program.
const SHIPPED: &str = include_str!("presets.toml");

/// Settings of voting, filtering and the rewards of both roles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Samples in a group of questions or answers (G).
    pub group_size: usize,
    /// Reasoner answers per question for the Questioner's reward (m).
    pub reward_samples: usize,
    /// Reasoner answers per question for its pseudo-label (m).
    pub label_samples: usize,
    /// Denominator of the confidence in the Questioner's reward.
    pub reward_denominator: Denominator,
    /// Denominator of the confidence of a pseudo-label.
    pub label_denominator: Denominator,
    /// Questioner reward.
    pub questioner: QuestionerSettings,
    /// Difficulty filter.
    pub difficulty: DifficultySettings,
    /// Reasoner reward.
    pub reasoner: ReasonerSettings,
}

/// A reason why a preset cannot be returned.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PresetError {
    /// No preset has this name.
    #[error("there is no preset \"{name}\"; the presets are {known}")]
    Unknown {
        /// Requested name.
        name: String,
        /// Names of the presets.
        known: String,
    },
    /// The text of the presets is invalid.
    #[error("the presets cannot be read: {0}")]
    Unreadable(String),
}

impl Preset {
    /// Returns an included preset by name.
    pub fn named(name: &str) -> Result<&'static Self, PresetError> {
        static PRESETS: OnceLock<Result<BTreeMap<String, Preset>, PresetError>> = OnceLock::new();
        let presets = PRESETS.get_or_init(|| Self::read_all(SHIPPED)).as_ref().map_err(Clone::clone)?;
        presets.get(name).ok_or_else(|| PresetError::Unknown {
            name: name.to_owned(),
            known: presets.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// Reads the presets of a TOML text, one table each.
    pub fn read_all(text: &str) -> Result<BTreeMap<String, Self>, PresetError> {
        toml::from_str(text).map_err(|error| PresetError::Unreadable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Preset, PresetError};
    use crate::reward::Denominator;

    #[test]
    fn both_presets_are_included() {
        let (paper, code) = (Preset::named("paper").unwrap(), Preset::named("released-code").unwrap());
        assert_eq!((paper.label_samples, code.label_samples), (10, 9));
        assert_eq!((paper.label_denominator, code.label_denominator), (Denominator::Sampled, Denominator::Answered));
        assert_eq!((paper.difficulty.low, code.difficulty.high), (0.25, 0.8));
        let error = Preset::named("papr").unwrap_err();
        assert_eq!(error.to_string(), "there is no preset \"papr\"; the presets are paper, released-code");
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        let text = include_str!("presets.toml").replace("lambda", "lambdas");
        assert!(matches!(Preset::read_all(&text), Err(PresetError::Unreadable(_))));
    }
}
