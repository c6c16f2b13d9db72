//! `[questioner]`, `[reasoner]` and `[sampling]`: what each role must do, what it is rewarded for, and how it draws.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reward::{
    Denominator, DiversityScope, OutputForm, ParsingMode, QuestionerSettings, ReasonerSettings, RewardFormula,
};
use crate::stages::prompt_sampler::{Sampling, SamplingLimits};
use crate::stages::questions::QuestionForm;

/// The Questioner: the form of its outputs and its reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Questioner {
    /// The form that an output must have: question, type-question or type-question-answer.
    #[schemars(with = "String")]
    pub form: OutputForm,
    /// How closely: strict or lenient.
    #[schemars(with = "String")]
    pub parsing: ParsingMode,
    /// Whether a question must suit its type: distinct options for a multiple choice, a question mark otherwise.
    pub form_check: bool,
    /// How uncertainty, diversity and validity make a reward: clamped or penalised.
    #[schemars(with = "String")]
    pub formula: RewardFormula,
    /// The weight of the diversity penalty.
    pub lambda: f64,
    /// Which questions are compared with each other: group or step.
    #[schemars(with = "String")]
    pub scope: DiversityScope,
    /// Questions an image that make a group (G).
    pub group_size: u32,
    /// Answers to a question for its reward (m).
    pub reward_samples: u32,
    /// What a majority is a share of: sampled or answered.
    #[schemars(with = "String")]
    pub reward_denominator: Denominator,
    /// Whether equal questions about one image share the answers that reward them: as likely as without, and cheaper.
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
    /// What its outputs must look like.
    pub fn question_form(&self) -> QuestionForm {
        QuestionForm { form: self.form, parsing: self.parsing, form_check: self.form_check }
    }

    /// How it is rewarded.
    pub fn reward(&self) -> QuestionerSettings {
        let Self { form, parsing, formula, lambda, scope, .. } = *self;
        QuestionerSettings { form, parsing, formula, lambda, scope }
    }
}

/// The Reasoner's reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reasoner {
    /// The weight of the right answer.
    pub correct: f64,
    /// The weight of the form: a thought, a box and nothing else.
    pub form: f64,
    /// Whether white space around `<`, `>` and `/` is dropped before anything is looked at.
    pub tidy: bool,
    /// Answers a question that make a group (G).
    pub group_size: u32,
}

impl Default for Reasoner {
    fn default() -> Self {
        Self { correct: 1.0, form: 0.0, tidy: false, group_size: 8 }
    }
}

impl Reasoner {
    /// How it is rewarded.
    pub fn reward(&self) -> ReasonerSettings {
        ReasonerSettings { correct: self.correct, form: self.form, tidy: self.tidy }
    }
}

/// How both roles draw their samples, and the room that this may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingSection {
    /// Memory of the cache of keys and values, in bytes. In f32 on the CPU no result depends on it; elsewhere it is part of what a result is
    /// named by, as a product's rounding may depend on what runs beside it.
    pub cache_bytes: u64,
    /// Samples that run at once; as for `cache_bytes`.
    pub max_sequences: u32,
    /// The Questioner's questions.
    pub questioner: Sampling,
    /// The Reasoner's answers, for votes and for its training.
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
    /// The memory limits of sampling.
    pub fn limits(&self) -> SamplingLimits {
        SamplingLimits { cache_bytes: self.cache_bytes, max_sequences: self.max_sequences }
    }
}
