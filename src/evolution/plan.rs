//! The plan of a round: its parts in order, and the part that an action belongs to.

use serde::Serialize;
use serde_json::Value;

use super::pipeline::Pipeline;
use super::seeds::SeedPurpose;
use crate::stages::answers::ANSWERS;
use crate::stages::curriculum::CURRICULUM as CURRICULUM_STAGE;
use crate::stages::evaluation::EVALUATION as EVALUATION_STAGE;
use crate::stages::questions::QUESTIONS;
use crate::stages::rewards::REWARDS;
use crate::stages::update::UPDATE;
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
        let steps = &update.questioner;
        let (group, samples) = (questioner.group_size, questioner.reward_samples);
        parts.extend([
            (
                QUESTIONER,
                format!(
                    "{} steps of {} images x {group} questions x {samples} answers",
                    steps.steps, steps.prompts_per_step
                ),
            ),
            (ASKING, format!("{images} x {} questions", round.questions_per_image)),
            (VOTING, format!("{} answers per question", curriculum.label_samples)),
        ]);
    }
    let kept = if is_labelled {
        format!("rows of {}", round.labelled.display())
    } else {
        format!("confidence {} to {}", curriculum.low, curriculum.high)
    };
    let steps = &update.reasoner;
    parts.extend([
        (CURRICULUM, kept),
        (
            REASONER,
            format!("{} steps of {} rows x {} answers", steps.steps, steps.prompts_per_step, reasoner.group_size),
        ),
    ]);
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
    let role_part = |role: Role| if role == Role::Questioner { QUESTIONER } else { REASONER };
    let step = action.parameters.get("step").and_then(Value::as_u64).and_then(|step| u32::try_from(step).ok());
    match action.stage.as_str() {
        "model.import" => (BASE, None),
        QUESTIONS | ANSWERS => match SeedPurpose::of_action(action, pipeline.round.seed, round, steps) {
            Some(SeedPurpose::KeepBest) => (KEEP_BEST, None),
            Some(SeedPurpose::Questions { .. }) => (ASKING, None),
            Some(SeedPurpose::Votes { .. }) => (VOTING, None),
            Some(SeedPurpose::StepQuestions { step, .. }) => (QUESTIONER, Some(step)),
            Some(SeedPurpose::StepAnswers { role, step, .. }) => (role_part(role), Some(step)),
            _ => (QUESTIONER, None),
        },
        REWARDS => {
            let is_questioner = action.parameters.get("settings").is_some_and(|s| s.get("questioner").is_some());
            (role_part(if is_questioner { Role::Questioner } else { Role::Reasoner }), step)
        }
        UPDATE => {
            let is_questioner = action.parameters.get("role").and_then(Value::as_str) == Some("questioner");
            (role_part(if is_questioner { Role::Questioner } else { Role::Reasoner }), step)
        }
        stage if stage.starts_with(CURRICULUM_STAGE) => (CURRICULUM, None),
        stage if stage.starts_with(EVALUATION_STAGE) => (EVALUATION, None),
        _ => (PUBLISHING, None),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn actions_find_their_part() {
        let text = "evolution = \"a\"\n[round]\nseed = 3\nkeep_best = true\n";
        let pipeline = Pipeline::parse(Path::new("p.toml"), text).expect("usable");
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
