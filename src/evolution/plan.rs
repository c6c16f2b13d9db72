//! The plan of a round: its parts in order, and the part that an action belongs to.

use serde::Serialize;
use serde_json::Value;

use super::pipeline::Pipeline;
use super::seeds::SeedPurpose;
use crate::stages::answers::ANSWERS;
use crate::stages::curriculum::CURRICULUM as CURRICULUM_STAGE;
use crate::stages::evaluation::EVALUATION as EVALUATION_STAGE;
use crate::stages::model::{CHECKPOINT, IMPORT};
use crate::stages::questions::QUESTIONS;
use crate::stages::rewards::REWARDS;
use crate::stages::update::{UPDATE, UpdateSettings};
use crate::store::Action;
use crate::tables::Role;

/// A part of a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedPart {
    /// Its name.
    pub part: &'static str,
    /// Description of the amount of work, such as `8 of 64 images`.
    #[serde(rename = "what")]
    pub description: String,
}

const BASE: &str = "base model";
const QUESTIONER: &str = "Questioner's training";
const ASKING: &str = "asking";
const VOTING: &str = "voting";
const CURRICULUM: &str = "curriculum";
const REASONER: &str = "Reasoner's training";
const KEEP_BEST: &str = "keep-best";
const EVALUATION: &str = "evaluation";
const PUBLISHING: &str = "publishing";

/// Returns the parts of a round of a pipeline. `images` is the number of images, where it is known.
pub fn plan(pipeline: &Pipeline, images: Option<u64>) -> Vec<PlannedPart> {
    let Pipeline { update, questioner, reasoner, curriculum, round, evaluation, .. } = pipeline;
    let images = match (u64::from(round.images), images) {
        (0, None) => "all images".to_owned(),
        (n, Some(all)) if n == 0 || n >= all => format!("all {all} images"),
        (n, Some(all)) => format!("{n} of {all} images"),
        (n, None) => format!("{n} images"),
    };
    let is_labelled = round.is_labelled();
    let mut parts = vec![(BASE, pipeline.model.base.display().to_string())];
    if !is_labelled {
        let UpdateSettings { steps, prompts_per_step, .. } = update.questioner;
        let (group, samples) = (questioner.group_size, questioner.reward_samples);
        let amount = format!("{steps} steps of {prompts_per_step} images x {group} questions x {samples} answers");
        parts.extend([
            (QUESTIONER, amount),
            (ASKING, format!("{images} x {} questions", round.questions_per_image)),
            (VOTING, format!("{} answers per question", curriculum.label_samples)),
        ]);
    }
    let kept = if is_labelled {
        format!("rows of {}", round.labelled.display())
    } else {
        format!("confidence {} to {}", curriculum.low, curriculum.high)
    };
    let UpdateSettings { steps, prompts_per_step, .. } = update.reasoner;
    let amount = format!("{steps} steps of {prompts_per_step} rows x {} answers", reasoner.group_size);
    parts.extend([(CURRICULUM, kept), (REASONER, amount)]);
    if round.keep_best {
        parts.push((KEEP_BEST, format!("{} questions of the base model", round.keep_best_questions)));
    }
    if !evaluation.benchmarks.is_empty() {
        let names: Vec<String> = evaluation.benchmarks.iter().map(|file| file.display().to_string()).collect();
        parts.push((EVALUATION, names.join(", ")));
    }
    parts.push((PUBLISHING, "the models and the tables".to_owned()));
    parts.into_iter().map(|(part, description)| PlannedPart { part, description }).collect()
}

/// Returns the part of a round that an action belongs to, and its training step.
pub fn part_of(pipeline: &Pipeline, round: u32, action: &Action) -> (&'static str, Option<u32>) {
    let steps = pipeline.update.questioner.steps.max(pipeline.update.reasoner.steps);
    let step = action.parameters.get("step").and_then(Value::as_u64).and_then(|step| u32::try_from(step).ok());
    match action.stage.as_str() {
        IMPORT | CHECKPOINT => (BASE, None),
        QUESTIONS | ANSWERS => match SeedPurpose::of_action(action, pipeline.round.seed, round, steps) {
            Some(SeedPurpose::KeepBest) => (KEEP_BEST, None),
            Some(SeedPurpose::Questions { .. }) => (ASKING, None),
            Some(SeedPurpose::Votes { .. }) => (VOTING, None),
            Some(SeedPurpose::StepQuestions { step, .. }) => (QUESTIONER, Some(step)),
            Some(SeedPurpose::StepAnswers { role: Role::Reasoner, step, .. }) => (REASONER, Some(step)),
            Some(SeedPurpose::StepAnswers { step, .. }) => (QUESTIONER, Some(step)),
            _ => (QUESTIONER, None),
        },
        REWARDS | UPDATE => {
            let parameter = |name: &str| action.parameters.get(name);
            let rewards_questioner = parameter("settings").is_some_and(|settings| settings.get("questioner").is_some());
            let is_questioner = rewards_questioner || parameter("role").and_then(Value::as_str) == Some("questioner");
            (if is_questioner { QUESTIONER } else { REASONER }, step)
        }
        stage if stage.starts_with(CURRICULUM_STAGE) => (CURRICULUM, None),
        stage if stage.starts_with(EVALUATION_STAGE) => (EVALUATION, None),
        _ => (PUBLISHING, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_find_their_part() {
        let pipeline = Pipeline::parse_keys("[round]\nseed = 3\nkeep_best = true").expect("usable");
        let action = |stage: &str, purpose: SeedPurpose| Action {
            stage: stage.into(),
            seed: purpose.seed(3),
            ..Action::default()
        };
        let part = |stage: &str, purpose| part_of(&pipeline, 2, &action(stage, purpose));
        let round = 2;
        let answers = |role, step| part("answers", SeedPurpose::StepAnswers { round, role, step });
        assert_eq!(part("questions", SeedPurpose::Questions { round }), (ASKING, None));
        assert_eq!(part("questions", SeedPurpose::StepQuestions { round, step: 4 }), (QUESTIONER, Some(4)));
        assert_eq!(answers(Role::Questioner, 4), (QUESTIONER, Some(4)));
        assert_eq!(answers(Role::Reasoner, 0), (REASONER, Some(0)));
        assert_eq!(part("answers", SeedPurpose::Votes { round }), (VOTING, None));
        assert_eq!(part("answers", SeedPurpose::KeepBest), (KEEP_BEST, None));
        let names: Vec<&str> = plan(&pipeline, None).iter().map(|part| part.part).collect();
        assert_eq!(names, [BASE, QUESTIONER, ASKING, VOTING, CURRICULUM, REASONER, KEEP_BEST, PUBLISHING]);
    }
}
