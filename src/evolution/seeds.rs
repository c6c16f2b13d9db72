//! Seeds: one for each use of randomness in an evolution, derived from the pipeline's seed.

use crate::ids::Digest;
use crate::stages::answers::ANSWERS;
use crate::stages::questions::QUESTIONS;
use crate::store::Action;
use crate::tables::Role;

/// A use of randomness in an evolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeedPurpose {
    /// The order in which rounds take images.
    ImageOrder,
    /// The order in which rounds take the rows of a labelled file.
    LabelledOrder,
    /// The keep-best score: its images, questions and answers.
    KeepBest,
    /// Answers to benchmarks. Every Reasoner draws the same random numbers, so that scores differ
    /// only by the model.
    Evaluation,
    /// A round's questions, after the Questioner's training.
    Questions { round: u32 },
    /// The answers that vote on a round's questions.
    Votes { round: u32 },
    /// The choice of a round's curriculum.
    Curriculum { round: u32 },
    /// The order in which a role's training takes its prompts.
    StepOrder { round: u32, role: Role },
    /// The initial weights of a role's LoRA adapters.
    Adapters { round: u32, role: Role },
    /// The questions sampled for a step of the Questioner's training.
    StepQuestions { round: u32, step: u32 },
    /// The answers sampled for a step of a role's training.
    StepAnswers { round: u32, role: Role, step: u32 },
}

impl SeedPurpose {
    /// Returns the seed for this purpose, derived from the pipeline's seed.
    pub fn seed(self, pipeline_seed: u64) -> u64 {
        let of_round = |round: u32, labels: &[&str]| {
            let round = format!("round {round}");
            let labels: Vec<&str> = std::iter::once(round.as_str()).chain(labels.iter().copied()).collect();
            derive_seed(pipeline_seed, &labels)
        };
        let step_label = |step: u32| format!("step {step}");
        match self {
            Self::ImageOrder => derive_seed(pipeline_seed, &["images"]),
            Self::LabelledOrder => derive_seed(pipeline_seed, &["labelled"]),
            Self::KeepBest => derive_seed(pipeline_seed, &["keep best"]),
            Self::Evaluation => of_round(0, &["evaluation"]),
            Self::Questions { round } => of_round(round, &["questions"]),
            Self::Votes { round } => of_round(round, &["votes"]),
            Self::Curriculum { round } => of_round(round, &["curriculum"]),
            Self::StepOrder { round, role } => of_round(round, &[role.as_str(), "order"]),
            Self::Adapters { round, role } => of_round(round, &[role.as_str(), "adapters"]),
            Self::StepQuestions { round, step } => {
                of_round(round, &[Role::Questioner.as_str(), &step_label(step), "questions"])
            }
            Self::StepAnswers { round, role, step } => of_round(round, &[role.as_str(), &step_label(step), "answers"]),
        }
    }

    /// Returns the purpose of a stored action that samples questions or answers in a round; `None`
    /// for other stages and rounds.
    ///
    /// Training, the curriculum and keep-best run the same stages, and their actions differ in
    /// nothing but the seed. An additional field that names the purpose would change the key of
    /// every stored action, so the purposes are tried until one has the action's seed. `steps` is
    /// the number of training steps to try.
    pub fn of_action(action: &Action, pipeline_seed: u64, round: u32, steps: u32) -> Option<Self> {
        let roles = [Role::Reasoner, Role::Questioner];
        let purposes: Vec<Self> = match action.stage.as_str() {
            QUESTIONS => {
                let of_steps = (0..steps).map(|step| Self::StepQuestions { round, step });
                [Self::KeepBest, Self::Questions { round }].into_iter().chain(of_steps).collect()
            }
            ANSWERS => {
                let of_step = |step| roles.map(|role| Self::StepAnswers { round, role, step });
                let of_steps = (0..steps).flat_map(of_step);
                [Self::KeepBest, Self::Votes { round }].into_iter().chain(of_steps).collect()
            }
            _ => Vec::new(),
        };
        purposes.into_iter().find(|purpose| purpose.seed(pipeline_seed) == action.seed)
    }
}

/// Derives a seed from another one and labels such as `["round 2", "questions"]`.
pub(super) fn derive_seed(seed: u64, labels: &[&str]) -> u64 {
    let seed = seed.to_le_bytes();
    let parts: Vec<&[u8]> = std::iter::once(&seed[..]).chain(labels.iter().map(|label| label.as_bytes())).collect();
    let digest = Digest::derive("visplay 2026 seed of a part", &parts);
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn seeds_of_different_labels_differ() {
        let seeds: BTreeSet<u64> =
            [derive_seed(0, &["a", "b"]), derive_seed(0, &["ab"]), derive_seed(1, &["a", "b"]), derive_seed(0, &[])]
                .into();
        assert_eq!(seeds.len(), 4);
    }

    #[test]
    fn purposes_hash_the_labels_that_stored_actions_have() {
        let (round, role, step) = (2, Role::Questioner, 4);
        let cases: [(SeedPurpose, &[&str]); 11] = [
            (SeedPurpose::ImageOrder, &["images"]),
            (SeedPurpose::LabelledOrder, &["labelled"]),
            (SeedPurpose::KeepBest, &["keep best"]),
            (SeedPurpose::Evaluation, &["round 0", "evaluation"]),
            (SeedPurpose::Questions { round }, &["round 2", "questions"]),
            (SeedPurpose::Votes { round }, &["round 2", "votes"]),
            (SeedPurpose::Curriculum { round }, &["round 2", "curriculum"]),
            (SeedPurpose::StepOrder { round, role }, &["round 2", "questioner", "order"]),
            (SeedPurpose::Adapters { round, role: Role::Reasoner }, &["round 2", "reasoner", "adapters"]),
            (SeedPurpose::StepQuestions { round, step }, &["round 2", "questioner", "step 4", "questions"]),
            (SeedPurpose::StepAnswers { round, role, step }, &["round 2", "questioner", "step 4", "answers"]),
        ];
        for (purpose, labels) in cases {
            assert_eq!(purpose.seed(7), derive_seed(7, labels), "{purpose:?}");
        }
    }
}
