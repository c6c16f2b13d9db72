//! The `questions` stage: the Questioner writes questions about images, for a training step or for
//! the curriculum of a round.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::prompt_sampler::{PromptRequest, PromptSampler, PromptSamples, Sampling};
use super::question_form::{ParsedQuestion, parse_question};
use super::{ListedRows, Result, Runner, ShardOutput, Stage, TableOutput, new_action, schema};
use crate::ids::{Digest, GroupId, ImageId, QuestionId};
use crate::reward::{OutputForm, ParsingMode};
use crate::sampling::Sample;
use crate::store::{Action, Counts};
use crate::tables::{QuestionRow, RejectRow};

/// The stage's name, which also keys its randomness.
pub const QUESTIONS: &str = "questions";
const VERSION: u32 = 1;

/// The form that the Questioner's outputs must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuestionForm {
    /// Tags of an output.
    #[schemars(with = "String")]
    pub form: OutputForm,
    /// How strictly outputs are parsed.
    #[schemars(with = "String")]
    pub parsing: ParsingMode,
    /// Whether a question must suit its type: distinct options for a multiple choice, a question
    /// mark otherwise.
    pub form_check: bool,
}

/// The `questions` stage.
pub struct Questions<'a, 'd> {
    /// The Questioner's sampler.
    pub sampler: &'a PromptSampler<'d>,
    /// Form of its outputs.
    pub form: QuestionForm,
    /// Sampling settings.
    pub sampling: Sampling,
    /// Number of samples per image.
    pub samples: u32,
    /// Seed of the random streams.
    pub seed: u64,
}

impl Questions<'_, '_> {
    fn row(&self, image: ImageId, group: GroupId, n: u32, prompt_tokens: u32, sample: Sample) -> QuestionRow {
        let read = parse_question(&sample.text, self.form.form, self.form.parsing, self.form.form_check);
        let (invalid_reason, question_type, question, claimed_answer) = match read {
            Ok(ParsedQuestion { kind, question, claimed }) => (None, kind, Some(question), claimed),
            Err(reason) => (Some(reason.to_owned()), None, None, None),
        };
        QuestionRow {
            question_id: question_id(group, n),
            image_id: image,
            group_id: group,
            sample: n,
            seed: self.seed,
            prompt_id: self.sampler.prompt.id,
            model_id: self.sampler.model.id,
            prompt_tokens,
            raw_text: sample.text,
            token_ids: sample.token_ids,
            logprobs: sample.logprobs,
            finish: sample.finish_reason.into(),
            valid: invalid_reason.is_none(),
            invalid_reason,
            question_type,
            question,
            claimed_answer,
        }
    }
}

/// Returns the id of a sample of a group.
fn question_id(group: GroupId, sample: u32) -> QuestionId {
    QuestionId(Digest::derive("visplay 2026 question id", &[group.0.as_bytes(), &sample.to_le_bytes()]))
}

impl Stage for Questions<'_, '_> {
    type Shard = ListedRows<ImageId>;
    const PHASE: &'static str = "asking questions";
    const IS_CONCURRENT: bool = false;

    fn needs_trainer(&self) -> bool {
        self.sampler.model.is_in_training
    }

    fn action(&self, shard: &Self::Shard) -> Action {
        Action {
            parameters: self.sampler.parameters([
                ("form", json!(self.form)),
                ("samples", json!(self.samples)),
                ("sampling", json!(self.sampling)),
            ]),
            seed: self.seed,
            inputs: shard.inputs("images"),
            model: Some(self.sampler.model.id.0),
            ..new_action(QUESTIONS, VERSION, [schema::<QuestionRow>(), schema::<RejectRow>()])
        }
    }

    fn units(&self, shard: &Self::Shard) -> u64 {
        shard.rows.len() as u64 * u64::from(self.samples)
    }

    fn run_shard(&self, shard: &Self::Shard, runner: &Runner<'_>) -> Result<ShardOutput> {
        let request = |id: &ImageId| PromptRequest { row: id.0, image: Some(*id), question: String::new() };
        let requests: Vec<PromptRequest> = shard.rows.iter().map(request).collect();
        let key = (QUESTIONS, self.seed);
        let prompt_samples = self.sampler.sample(&requests, self.samples, &self.sampling, key, runner)?;
        let mut rows = TableOutput::<QuestionRow>::new(runner.store)?;
        let mut rejects = Vec::new();
        let mut invalid = 0;
        for (&image, prompt_samples) in shard.rows.iter().zip(prompt_samples) {
            let group = self.sampler.group_id("visplay 2026 questions group id", self.seed, image.0, &self.sampling);
            match prompt_samples {
                Ok(PromptSamples { prompt_tokens, samples }) => {
                    for (n, sample) in (0..).zip(samples) {
                        let row = self.row(image, group, n, prompt_tokens, sample);
                        invalid += u64::from(!row.valid);
                        rows.push(row)?;
                    }
                }
                Err(rejection) => rejects.extend((0..self.samples).map(|n| {
                    let id = question_id(group, n);
                    rejection.clone().into_row(QUESTIONS, format!("image {image}"), Some(id.0))
                })),
            }
        }
        let rows = rows.finish(runner.store)?;
        let counts = Counts { rows_in: self.units(shard), rows_out: rows.rows, rejects: rejects.len() as u64 };
        let statistics = BTreeMap::from([("invalid".to_owned(), invalid), ("valid".to_owned(), rows.rows - invalid)]);
        let outputs = vec![rows, TableOutput::write_all(runner.store, rejects)?];
        Ok(ShardOutput { outputs, counts, statistics, ..ShardOutput::default() })
    }
}
