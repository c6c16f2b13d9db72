//! `[questioner]`, `[reasoner]` and `[sampling]`: output format, rewards and sampling of both
//! roles.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reward::{
    Denominator, DiversityScope, OutputForm, ParsingMode, QuestionerSettings, ReasonerSettings, RewardFormula,
};
use crate::stages::prompt_sampler::{Sampling, SamplingLimits};
use crate::stages::questions::QuestionForm;

/// The output format and the reward of the Questioner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Questioner {
    /// Required form of an output: question, type-question or type-question-answer.
    #[schemars(with = "String")]
    pub form: OutputForm,
    /// Parsing of the form: strict or lenient.
    #[schemars(with = "String")]
    pub parsing: ParsingMode,
    /// Whether a question must fit its type: distinct options for multiple choice, a question mark
    /// otherwise.
    pub form_check: bool,
    /// Formula that combines uncertainty, diversity and validity: clamped or penalised.
    #[schemars(with = "String")]
    pub formula: RewardFormula,
    /// Weight of the diversity penalty.
    pub lambda: f64,
    /// Questions that the diversity penalty compares: those of a group or of a step.
    #[schemars(with = "String")]
    pub scope: DiversityScope,
    /// Questions per image, which make a group (G).
    pub group_size: u32,
    /// Answers per question for its reward (m).
    pub reward_samples: u32,
    /// Denominator of the confidence: sampled or answered.
    #[schemars(with = "String")]
    pub reward_denominator: Denominator,
    /// Whether equal questions about one image share their reward answers: the same distribution at
    /// less cost.
    pub share_equal: bool,
}

impl Default for Questioner {
    fn default() -> Self {
        Self {
            form: OutputForm::Question,
            parsing: ParsingMode::Strict,
            form_check: false,
            formula: RewardFormula::Clamped,
            lambda: 1.0,
            scope: DiversityScope::Group,
            group_size: 8,
            reward_samples: 10,
            reward_denominator: Denominator::Sampled,
            share_equal: false,
        }
    }
}

impl Questioner {
    /// Returns the required form of outputs.
    pub fn question_form(&self) -> QuestionForm {
        QuestionForm { form: self.form, parsing: self.parsing, form_check: self.form_check }
    }

    /// Returns the settings of the reward.
    pub fn reward(&self) -> QuestionerSettings {
        let Self { form, parsing, formula, lambda, scope, .. } = *self;
        QuestionerSettings { form, parsing, formula, lambda, scope }
    }
}

/// The Reasoner's reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reasoner {
    /// Weight of a correct answer.
    pub correct: f64,
    /// Weight of the format: a thought, a box and nothing else.
    pub form: f64,
    /// Whether white space around `<`, `>` and `/` is removed before parsing.
    pub tidy: bool,
    /// Answers per question, which make a group (G).
    pub group_size: u32,
}

impl Default for Reasoner {
    fn default() -> Self {
        Self { correct: 1.0, form: 0.0, tidy: false, group_size: 8 }
    }
}

impl Reasoner {
    /// Returns the settings of the reward.
    pub fn reward(&self) -> ReasonerSettings {
        ReasonerSettings { correct: self.correct, form: self.form, tidy: self.tidy }
    }
}

/// The sampling of both roles and its memory limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingSection {
    /// Memory for the KV cache, in bytes. In f32 on the CPU results do not depend on it. Elsewhere
    /// rounding may depend on which sequences run together, so it is part of action keys.
    pub cache_bytes: u64,
    /// Maximum number of sequences that run together; part of action keys as `cache_bytes` is.
    pub max_sequences: u32,
    /// Sampling of the Questioner's questions.
    pub questioner: Sampling,
    /// Sampling of the Reasoner's answers, for votes and for training.
    pub reasoner: Sampling,
}

impl Default for SamplingSection {
    fn default() -> Self {
        Self {
            cache_bytes: 1 << 30,
            max_sequences: 256,
            questioner: Sampling { top_p: 0.99, ..Sampling::default() },
            reasoner: Sampling { top_k: 40, ..Sampling::default() },
        }
    }
}

impl SamplingSection {
    /// Returns the memory limits of sampling.
    pub fn limits(&self) -> SamplingLimits {
        SamplingLimits { cache_bytes: self.cache_bytes, max_sequences: self.max_sequences }
    }
}
