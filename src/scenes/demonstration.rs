//! Rows of the warm start: for each image a description, some answered questions and an asked one.
//!
//! The description is dense supervision of seeing; without it nothing else is learnt. What is asked leans to the easy
//! families, which leaves the Questioner room to find the hard ones by itself.

use super::answer::{DemonstrationStyle, asked, description, response, wrong_answer};
use super::ask::QuestionSampler;
use super::family::QuestionFamily;
use super::scene::Scene;
use crate::tables::{DemonstrationRow, ImageLink};

/// The system text of every prompt: the one that the chat format of this family has when nobody gives another.
pub const SYSTEM: &str = "You are a helpful assistant.";
/// What the Questioner is told, `pipelines/prompts/nano-questioner.txt`.
pub const ASK_PROMPT: &str = "Ask a question.";
/// What a description is asked by.
pub const DESCRIBE_PROMPT: &str = "Describe the image.";

/// Answered questions for each image, unless it is said otherwise.
const ANSWERS: usize = 3;
/// Of a hundred answers so many look first.
const LOOK_FIRST: usize = 40;
/// How often an easy family is asked beside a hard one.
const EASY_ASKED: u64 = 10;

/// How much each family is answered beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyWeights([u64; QuestionFamily::ALL.len()]);

impl Default for FamilyWeights {
    fn default() -> Self {
        Self([1; QuestionFamily::ALL.len()])
    }
}

impl FamilyWeights {
    /// The weight of a family.
    pub fn set(&mut self, family: QuestionFamily, weight: u64) {
        self.0[family as usize] = weight;
    }

    /// Whether so many answers of an image can be of different families.
    pub fn are_enough(&self, answers: usize) -> bool {
        self.0.iter().filter(|weight| **weight > 0).count() >= answers
    }
}

/// How demonstrations are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemonstrationOptions {
    /// Answered questions for each image, all of different families.
    pub answers: usize,
    /// Of a hundred straight answers so many are wrong. Looking first stays right: so the model knows more than it says
    /// at once, and can learn to look.
    pub wrong_percent: usize,
    /// How much each family is answered.
    pub weights: FamilyWeights,
}

impl Default for DemonstrationOptions {
    fn default() -> Self {
        Self { answers: ANSWERS, wrong_percent: 0, weights: FamilyWeights::default() }
    }
}

/// The rows of one scene, in training order.
pub fn demonstrations(scene: &Scene, image: &str, options: &DemonstrationOptions) -> Vec<DemonstrationRow> {
    let row =
        |prompt: &str, response: String, style: DemonstrationStyle, family: Option<QuestionFamily>, wrong: bool| {
            DemonstrationRow {
                scene: scene.index(),
                image: ImageLink { bytes: None, path: image.to_owned() },
                system: SYSTEM.to_owned(),
                prompt: prompt.to_owned(),
                response,
                style: style.word().to_owned(),
                family: family.map(|family| family.name().to_owned()),
                wrong,
            }
        };
    let mut rows = vec![row(DESCRIBE_PROMPT, description(scene), DemonstrationStyle::Describe, None, false)];
    let mut asker = QuestionSampler::new(scene, "demonstrations");
    let mut weights = options.weights.0;
    for _ in 0..options.answers {
        let family = QuestionFamily::ALL[asker.dice().weighted(&weights)];
        weights[family as usize] = 0;
        let (question, truth) = asker.ask(family);
        let style =
            if asker.dice().percent(LOOK_FIRST) { DemonstrationStyle::LookFirst } else { DemonstrationStyle::Straight };
        let wrong = style == DemonstrationStyle::Straight && asker.dice().percent(options.wrong_percent);
        let answer = if wrong { wrong_answer(&question, truth.text(), asker.dice()) } else { truth.text().to_owned() };
        let response = response(&question, scene, style, &answer);
        rows.push(row(&question.to_string(), response, style, Some(family), wrong));
    }
    let asked_weights = QuestionFamily::ALL.map(|family| if family.is_hard() { 1 } else { EASY_ASKED });
    let family = QuestionFamily::ALL[asker.dice().weighted(&asked_weights)];
    let (question, _) = asker.ask(family);
    rows.push(row(ASK_PROMPT, asked(&question), DemonstrationStyle::Ask, Some(family), false));
    rows
}
