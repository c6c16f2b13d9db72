//! Demonstrations for the warm start: a description, some answered questions and one generated
//! question per image.
//!
//! The description is dense supervision of perception; without it nothing else is learnt. Generated
//! questions favour the easy families, so that the Questioner can still discover the hard ones by
//! itself.

use super::answer::{DemonstrationStyle, description, questioner_output, response, wrong_answer};
use super::family::QuestionFamily;
use super::sampler::QuestionSampler;
use super::scene::Scene;
use crate::tables::{DemonstrationRow, ImageLink};

/// System message of every prompt: the default of this model family's chat template.
pub const SYSTEM: &str = "You are a helpful assistant.";
/// Prompt of the Questioner, `pipelines/prompts/nano-questioner.txt`.
pub const ASK_PROMPT: &str = "Ask a question.";
/// Prompt for a description.
pub const DESCRIBE_PROMPT: &str = "Describe the image.";

/// Default number of answered questions per image.
const DEFAULT_ANSWERS: usize = 3;
/// Percentage of answers that list counts before the answer.
const COUNT_FIRST_PERCENT: usize = 40;
/// Weight of an easy family relative to a hard one in generated questions.
const EASY_FAMILY_WEIGHT: u64 = 10;

/// Relative weights of the families in answered questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyWeights([u64; QuestionFamily::ALL.len()]);

impl Default for FamilyWeights {
    fn default() -> Self {
        Self([1; QuestionFamily::ALL.len()])
    }
}

impl FamilyWeights {
    /// Sets the weight of a family.
    pub fn set(&mut self, family: QuestionFamily, weight: u64) {
        self.0[family as usize] = weight;
    }

    /// Whether enough families have a positive weight for this many answers of different families.
    pub fn suffice_for(&self, answers: usize) -> bool {
        self.0.iter().filter(|weight| **weight > 0).count() >= answers
    }
}

/// Options of the demonstrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemonstrationOptions {
    /// Answered questions per image, all of different families.
    pub answers: usize,
    /// Percentage of direct answers that are wrong. Answers after counting are always right, so the
    /// model can learn that counting helps.
    pub wrong_percent: usize,
    /// Weights of the families in answered questions.
    pub weights: FamilyWeights,
}

impl Default for DemonstrationOptions {
    fn default() -> Self {
        Self { answers: DEFAULT_ANSWERS, wrong_percent: 0, weights: FamilyWeights::default() }
    }
}

/// Returns the rows of one scene, in training order.
pub fn demonstrations(scene: &Scene, image: &str, options: &DemonstrationOptions) -> Vec<DemonstrationRow> {
    let row =
        |prompt: &str, response: String, style: DemonstrationStyle, family: Option<QuestionFamily>, wrong: bool| {
            DemonstrationRow {
                scene: scene.index(),
                image: ImageLink { bytes: None, path: image.to_owned() },
                system: SYSTEM.to_owned(),
                prompt: prompt.to_owned(),
                response,
                style: style.as_str().to_owned(),
                family: family.map(|family| family.as_str().to_owned()),
                wrong,
            }
        };
    let mut rows = vec![row(DESCRIBE_PROMPT, description(scene), DemonstrationStyle::Describe, None, false)];
    let mut sampler = QuestionSampler::new(scene, "demonstrations");
    let mut weights = options.weights.0;
    for _ in 0..options.answers {
        let family = QuestionFamily::ALL[sampler.rng().weighted(&weights)];
        weights[family as usize] = 0;
        let (question, truth) = sampler.sample(family);
        let style = if sampler.rng().random_bool(COUNT_FIRST_PERCENT) {
            DemonstrationStyle::CountFirst
        } else {
            DemonstrationStyle::Direct
        };
        let wrong = style == DemonstrationStyle::Direct && sampler.rng().random_bool(options.wrong_percent);
        let answer = if wrong { wrong_answer(&question, truth.text(), sampler.rng()) } else { truth.text().to_owned() };
        let response = response(&question, scene, style, &answer);
        rows.push(row(&question.to_string(), response, style, Some(family), wrong));
    }
    let asked_weights = QuestionFamily::ALL.map(|family| if family.is_hard() { 1 } else { EASY_FAMILY_WEIGHT });
    let family = QuestionFamily::ALL[sampler.rng().weighted(&asked_weights)];
    let (question, _) = sampler.sample(family);
    rows.push(row(ASK_PROMPT, questioner_output(&question), DemonstrationStyle::Ask, Some(family), false));
    rows
}
