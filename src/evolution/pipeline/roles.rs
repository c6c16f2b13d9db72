//! `[questioner]`, `[reasoner]`, `[sampling]` and `[update]`: output format, rewards, sampling and
//! training of both roles.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::section;
use crate::reward::{
    Denominator, DiversityScope, OutputForm, ParsingMode, QuestionerSettings, ReasonerSettings, RewardFormula,
};
use crate::stages::prompt_sampler::{Sampling, SamplingLimits};
use crate::stages::questions::QuestionForm;
use crate::stages::update::UpdateSettings;

section! {
    /// The output format and the reward of the Questioner.
    pub struct Questioner {
        /// Required form of an output: question, type-question or type-question-answer.
        #[schemars(with = "String")]
        pub form: OutputForm = OutputForm::Question,
        /// Parsing of the form: strict or lenient.
        #[schemars(with = "String")]
        pub parsing: ParsingMode = ParsingMode::Strict,
        /// Whether a question must fit its type: distinct options for multiple choice, a question
        /// mark otherwise.
        pub form_check: bool = false,
        /// Formula that combines uncertainty, diversity and validity: clamped or penalised.
        #[schemars(with = "String")]
        pub formula: RewardFormula = RewardFormula::Clamped,
        /// Weight of the diversity penalty.
        pub lambda: f64 = 1.0,
        /// Questions that the diversity penalty compares: those of a group or of a step.
        #[schemars(with = "String")]
        pub scope: DiversityScope = DiversityScope::Group,
        /// Questions per image, which make a group (G).
        pub group_size: u32 = 8,
        /// Answers per question for its reward (m).
        pub reward_samples: u32 = 10,
        /// Denominator of the confidence: sampled or answered.
        #[schemars(with = "String")]
        pub reward_denominator: Denominator = Denominator::Sampled,
        /// Whether equal questions about one image share their reward answers: the same
        /// distribution at less cost.
        pub share_equal: bool = false,
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

section! {
    /// The Reasoner's reward.
    pub struct Reasoner {
        /// Weight of a correct answer.
        pub correct: f64 = 1.0,
        /// Weight of the format: a thought, a box and nothing else.
        pub form: f64 = 0.0,
        /// Whether white space around `<`, `>` and `/` is removed before parsing.
        pub tidy: bool = false,
        /// Answers per question, which make a group (G).
        pub group_size: u32 = 8,
    }
}

impl Reasoner {
    /// Returns the settings of the reward.
    pub fn reward(&self) -> ReasonerSettings {
        ReasonerSettings { correct: self.correct, form: self.form, tidy: self.tidy }
    }
}

section! {
    /// The sampling of both roles and its memory limits.
    pub struct SamplingSection {
        /// Memory for the KV cache, in bytes. In f32 on the CPU results do not depend on it.
        /// Elsewhere rounding may depend on which sequences run together, so it is part of action
        /// keys.
        pub cache_bytes: u64 = 1 << 30,
        /// Maximum number of sequences that run together; part of action keys as `cache_bytes` is.
        pub max_sequences: u32 = 256,
        /// Sampling of the Questioner's questions.
        pub questioner: Sampling = Sampling { top_p: 0.99, ..Sampling::default() },
        /// Sampling of the Reasoner's answers, for votes and for training.
        pub reasoner: Sampling = Sampling { top_k: 40, ..Sampling::default() },
    }
}

impl SamplingSection {
    /// Returns the memory limits of sampling.
    pub fn limits(&self) -> SamplingLimits {
        SamplingLimits { cache_bytes: self.cache_bytes, max_sequences: self.max_sequences }
    }
}

/// The training settings of both roles.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Updates {
    /// Training of the Questioner; 0 steps freeze it.
    pub questioner: UpdateSettings,
    /// Training of the Reasoner.
    pub reasoner: UpdateSettings,
}
