//! Presets: the numbers and choices of the method, as data.
//!
//! `paper` and `released-code` are tables of `presets.toml`. A preset that only changes numbers is another table there.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::confidence::Denominator;
use super::difficulty::DifficultySettings;
use super::questioner::QuestionerSettings;
use super::reasoner::ReasonerSettings;

/// The presets that ship.
const SHIPPED: &str = include_str!("presets.toml");

/// Everything that voting, filtering and the rewards of both roles depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Samples of a question or of an answer that make a group (G).
    pub group_size: usize,
    /// Answers that the Reasoner gives to a question for the Questioner's reward (m).
    pub reward_samples: usize,
    /// Answers that the Reasoner gives to a question for its pseudo-label (m).
    pub label_samples: usize,
    /// What a majority is a share of, in the Questioner's reward.
    pub reward_denominator: Denominator,
    /// What a majority is a share of, for a pseudo-label.
    pub label_denominator: Denominator,
    /// The Questioner's reward.
    pub questioner: QuestionerSettings,
    /// Which voted questions the Reasoner learns from.
    pub difficulty: DifficultySettings,
    /// The Reasoner's reward.
    pub reasoner: ReasonerSettings,
}

/// Why there is no such preset.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PresetError {
    /// No table of that name.
    #[error("there is no preset \"{name}\"; the presets are {known}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The text of the presets is not usable.
    #[error("the presets cannot be read: {0}")]
    Unreadable(String),
}

impl Preset {
    /// A preset that ships, by its name.
    pub fn named(name: &str) -> Result<&'static Self, PresetError> {
        static PRESETS: OnceLock<Result<BTreeMap<String, Preset>, PresetError>> = OnceLock::new();
        let presets = PRESETS.get_or_init(|| Self::read_all(SHIPPED)).as_ref().map_err(Clone::clone)?;
        presets.get(name).ok_or_else(|| PresetError::Unknown {
            name: name.to_owned(),
            known: presets.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// The presets of a TOML text, one table each.
    pub fn read_all(text: &str) -> Result<BTreeMap<String, Self>, PresetError> {
        toml::from_str(text).map_err(|error| PresetError::Unreadable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Preset, PresetError};
    use crate::reward::Denominator;

    #[test]
    fn both_presets_ship() {
        let (paper, code) = (Preset::named("paper").unwrap(), Preset::named("released-code").unwrap());
        assert_eq!((paper.label_samples, code.label_samples), (10, 9));
        assert_eq!((paper.label_denominator, code.label_denominator), (Denominator::Sampled, Denominator::Answered));
        assert_eq!((paper.difficulty.low, code.difficulty.high), (0.25, 0.8));
        let error = Preset::named("papr").unwrap_err();
        assert_eq!(error.to_string(), "there is no preset \"papr\"; the presets are paper, released-code");
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let text = include_str!("presets.toml").replace("lambda", "lambdas");
        assert!(matches!(Preset::read_all(&text), Err(PresetError::Unreadable(_))));
    }
}
