//! The plan of a round: its parts in their order, and which of them an action belongs to.

use serde::Serialize;
use serde_json::Value;

use super::pipeline::Pipeline;
use super::slices::derive_seed;
use crate::store::Action;

/// A part of a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedPart {
    /// Its name.
    pub part: &'static str,
    /// How much it does.
    pub what: String,
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

/// The parts of every round of a pipeline. `images` is how many there are, where it is known.
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
            (VOTING, format!("{} answers a question", curriculum.label_samples)),
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
    parts.into_iter().map(|(part, what)| PlannedPart { part, what }).collect()
}

/// The part of a round that an action belongs to, and its training step.
pub fn part_of(pipeline: &Pipeline, round: u32, action: &Action) -> (&'static str, Option<u32>) {
    let of_round = format!("round {round}");
    let seed = |parts: &[&str]| derive_seed(pipeline.round.seed, parts);
    let is = |part: &str| action.seed == seed(&[&of_round, part]);
    let step_of = |role: &str, what: &str, steps: u32| {
        (0..steps).find(|step| action.seed == seed(&[&of_round, role, &format!("step {step}"), what]))
    };
    let step = action.parameters.get("step").and_then(Value::as_u64).and_then(|step| u32::try_from(step).ok());
    match action.stage.as_str() {
        "model.import" => (BASE, None),
        "questions" | "answers" if action.seed == seed(&["keep best"]) => (KEEP_BEST, None),
        "questions" if is("questions") => (ASKING, None),
        "questions" => (QUESTIONER, step_of("questioner", "questions", pipeline.update.questioner.steps)),
        "answers" if is("votes") => (VOTING, None),
        "answers" => match step_of("reasoner", "answers", pipeline.update.reasoner.steps) {
            Some(step) => (REASONER, Some(step)),
            None => (QUESTIONER, step_of("questioner", "answers", pipeline.update.questioner.steps)),
        },
        "rewards" => {
            let is_questioner = action.parameters.get("settings").is_some_and(|s| s.get("questioner").is_some());
            (if is_questioner { QUESTIONER } else { REASONER }, step)
        }
        "update" => {
            let is_questioner = action.parameters.get("role").and_then(Value::as_str) == Some("questioner");
            (if is_questioner { QUESTIONER } else { REASONER }, step)
        }
        stage if stage.starts_with("curriculum") => (CURRICULUM, None),
        stage if stage.starts_with("evaluation") => (EVALUATION, None),
        _ => (PUBLISHING, None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    #[test]
    fn actions_find_their_part() {
        let text = "evolution = \"a\"\n[round]\nseed = 3\nkeep_best = true\n";
        let pipeline = Pipeline::parse(Path::new("p.toml"), text).expect("usable");
        let action = |stage: &str, seed: &[&str]| Action {
            stage: stage.into(),
            stage_version: 1,
            parameters: BTreeMap::new(),
            seed: derive_seed(3, seed),
            inputs: Vec::new(),
            model: None,
            shard: BTreeMap::new(),
            schemas: BTreeMap::new(),
            writer_profile: 1,
        };
        let part = |stage: &str, seed: &[&str]| part_of(&pipeline, 2, &action(stage, seed));
        assert_eq!(part("questions", &["round 2", "questions"]), (ASKING, None));
        assert_eq!(part("questions", &["round 2", "questioner", "step 4", "questions"]), (QUESTIONER, Some(4)));
        assert_eq!(part("answers", &["round 2", "questioner", "step 4", "answers"]), (QUESTIONER, Some(4)));
        assert_eq!(part("answers", &["round 2", "reasoner", "step 0", "answers"]), (REASONER, Some(0)));
        assert_eq!(part("answers", &["round 2", "votes"]), (VOTING, None));
        assert_eq!(part("answers", &["keep best"]), (KEEP_BEST, None));
        let names: Vec<&str> = plan(&pipeline, None).iter().map(|part| part.part).collect();
        assert_eq!(names, [BASE, QUESTIONER, ASKING, VOTING, CURRICULUM, REASONER, KEEP_BEST, PUBLISHING]);
    }
}
