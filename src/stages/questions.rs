//! The `questions` stage: the Questioner writes questions about images, for a training step or for
//! the curriculum of a round.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::prompt_sampler::{PromptRequest, PromptSampler, PromptSamples, Sampling};
use super::question_form::{ParsedQuestion, parse_question};
use super::{Runner, ShardOutput, Stage, StageError, TableOutput, new_action, put_listing, schema};
use crate::ids::{Digest, GroupId, ImageId, ModelId, PromptId, QuestionId};
use crate::reward::{OutputForm, ParsingMode};
use crate::sampling::Sample;
use crate::store::{Action, Counts, Input, ObjectId, Store};
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

/// Images whose questions are drawn together.
pub struct Shard {
    images: Vec<ImageId>,
    listing: ObjectId,
}

/// Splits images into shards of `rows` images.
///
/// # Errors
/// The store cannot be written to.
pub fn shards(store: &Store, images: &[ImageId], rows: usize) -> Result<Vec<Shard>, StageError> {
    images
        .chunks(rows.max(1))
        .map(|images| Ok(Shard { images: images.to_vec(), listing: put_listing(store, &images)? }))
        .collect()
}

impl Questions<'_, '_> {
    fn group(&self, image: ImageId) -> GroupId {
        let (model, prompt) = (self.sampler.model.id.0, self.sampler.prompt.id.0);
        let knobs = Digest::of(json!([self.sampler.compute, self.sampling]).to_string().as_bytes());
        let parts =
            [&self.seed.to_le_bytes()[..], model.as_bytes(), prompt.as_bytes(), image.0.as_bytes(), knobs.as_bytes()];
        GroupId(Digest::derive("visplay 2026 questions group id", &parts))
    }

    fn row(&self, image: ImageId, group: GroupId, n: u32, prompt_tokens: u32, sample: Sample) -> QuestionRow {
        let read = parse_question(&sample.text, self.form.form, self.form.parsing, self.form.form_check);
        let (invalid_reason, read) = match read {
            Ok(read) => (None, Some(read)),
            Err(reason) => (Some(reason.to_owned()), None),
        };
        let (question_type, question, claimed_answer) = match read {
            Some(ParsedQuestion { kind, question, claimed }) => (kind, Some(question), claimed),
            None => (None, None, None),
        };
        let (prompt_id, model_id): (PromptId, ModelId) = (self.sampler.prompt.id, self.sampler.model.id);
        QuestionRow {
            question_id: question_id(group, n),
            image_id: image,
            group_id: group,
            sample: n,
            seed: self.seed,
            prompt_id,
            model_id,
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
    type Shard = Shard;

    fn phase(&self) -> &'static str {
        "asking questions"
    }

    fn runs_concurrently(&self) -> bool {
        false
    }

    fn action(&self, shard: &Shard) -> Action {
        Action {
            parameters: BTreeMap::from([
                ("compute".into(), json!(self.sampler.compute)),
                ("form".into(), json!(self.form)),
                ("prompt".into(), json!(self.sampler.prompt.id)),
                ("samples".into(), json!(self.samples)),
                ("sampling".into(), json!(self.sampling)),
            ]),
            seed: self.seed,
            inputs: vec![Input { role: "images".into(), object: shard.listing }],
            model: Some(self.sampler.model.id.0),
            ..new_action(QUESTIONS, VERSION, [schema::<QuestionRow>(), schema::<RejectRow>()])
        }
    }

    fn units(&self, shard: &Shard) -> u64 {
        shard.images.len() as u64 * u64::from(self.samples)
    }

    fn run_shard(&self, shard: &Shard, runner: &Runner<'_>) -> Result<ShardOutput, StageError> {
        let requests: Vec<PromptRequest> = shard
            .images
            .iter()
            .map(|id| PromptRequest { row: id.0, image: Some(*id), question: String::new() })
            .collect();
        let prompt_samples =
            self.sampler.sample(&requests, self.samples, &self.sampling, (QUESTIONS, self.seed), runner)?;
        let mut rows = TableOutput::<QuestionRow>::new(runner.store)?;
        let mut rejects = Vec::new();
        let mut invalid = 0;
        for (&image, prompt_samples) in shard.images.iter().zip(prompt_samples) {
            let group = self.group(image);
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
