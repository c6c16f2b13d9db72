//! Questions: the Questioner writes about images. A step of its training and the questions of a round are the same stage.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::draw::{Ask, Drawer, Drawn, Sampling, finish};
use super::image_set::Refusal;
use super::question_form::{ReadQuestion, read_question};
use super::{Made, Runner, Stage, StageError, TableOutput, listing};
use crate::ids::{Digest, GroupId, ImageId, ModelId, PromptId, QuestionId};
use crate::reward::{OutputForm, Parsing};
use crate::sampling::Sample;
use crate::store::{Action, Counts, Input, ObjectId, Store};
use crate::tables::{PROFILE, QuestionRow, RejectRow, TableRow};

/// The stage's name, which also keys its randomness.
pub const QUESTIONS: &str = "questions";
const VERSION: u32 = 1;

/// What is asked of the Questioner's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuestionForm {
    /// The form that an output must have.
    #[schemars(with = "String")]
    pub form: OutputForm,
    /// How closely.
    #[schemars(with = "String")]
    pub parsing: Parsing,
    /// Whether a question must suit its type: distinct options for a multiple choice, a question mark otherwise.
    pub form_check: bool,
}

/// The stage; see the module.
pub struct Questions<'a, 'd> {
    /// The Questioner.
    pub drawer: &'a Drawer<'d>,
    /// What goes into every action: how the model computes.
    pub compute: &'a Value,
    /// The form of its outputs.
    pub form: QuestionForm,
    /// How it draws.
    pub sampling: Sampling,
    /// Samples an image.
    pub samples: u32,
    /// The seed.
    pub seed: u64,
}

/// Images asked about together.
pub struct Shard {
    images: Vec<ImageId>,
    listing: ObjectId,
}

/// Cuts images into shards of `rows`.
///
/// # Errors
/// The store cannot be written to.
pub fn shards(store: &Store, images: &[ImageId], rows: usize) -> Result<Vec<Shard>, StageError> {
    images
        .chunks(rows.max(1))
        .map(|images| Ok(Shard { images: images.to_vec(), listing: listing(store, &images)? }))
        .collect()
}

impl Questions<'_, '_> {
    fn group(&self, image: ImageId) -> GroupId {
        let (model, prompt) = (self.drawer.model.id.0, self.drawer.prompt.id.0);
        let knobs = Digest::of(json!([self.drawer.compute(self.compute), self.sampling]).to_string().as_bytes());
        let parts =
            [&self.seed.to_le_bytes()[..], model.as_bytes(), prompt.as_bytes(), image.0.as_bytes(), knobs.as_bytes()];
        GroupId(Digest::derive("visplay 2026 questions group id", &parts))
    }

    fn row(&self, image: ImageId, group: GroupId, n: u32, prompt_tokens: u32, sample: Sample) -> QuestionRow {
        let read = read_question(&sample.text, self.form.form, self.form.parsing, self.form.form_check);
        let (invalid_reason, read) = match read {
            Ok(read) => (None, Some(read)),
            Err(reason) => (Some(reason.to_owned()), None),
        };
        let (question_type, question, claimed_answer) = match read {
            Some(ReadQuestion { kind, question, claimed }) => (kind, Some(question), claimed),
            None => (None, None, None),
        };
        let (prompt_id, model_id): (PromptId, ModelId) = (self.drawer.prompt.id, self.drawer.model.id);
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
            finish: finish(sample.finish_reason),
            valid: invalid_reason.is_none(),
            invalid_reason,
            question_type,
            question,
            claimed_answer,
        }
    }
}

/// The id of a sample of a group.
fn question_id(group: GroupId, sample: u32) -> QuestionId {
    QuestionId(Digest::derive("visplay 2026 question id", &[group.0.as_bytes(), &sample.to_le_bytes()]))
}

impl Stage for Questions<'_, '_> {
    type Shard = Shard;

    fn phase(&self) -> &'static str {
        "asking questions"
    }

    fn concurrent(&self) -> bool {
        false
    }

    fn action(&self, shard: &Shard) -> Action {
        Action {
            stage: QUESTIONS.into(),
            stage_version: VERSION,
            parameters: BTreeMap::from([
                ("compute".into(), self.drawer.compute(self.compute)),
                ("form".into(), json!(self.form)),
                ("prompt".into(), json!(self.drawer.prompt.id)),
                ("samples".into(), json!(self.samples)),
                ("sampling".into(), self.sampling.parameters()),
            ]),
            seed: self.seed,
            inputs: vec![Input { role: "images".into(), object: shard.listing }],
            model: Some(self.drawer.model.id.0),
            shard: BTreeMap::new(),
            schemas: BTreeMap::from([
                (QuestionRow::TABLE.into(), QuestionRow::schema_id()),
                (RejectRow::TABLE.into(), RejectRow::schema_id()),
            ]),
            writer_profile: PROFILE.number,
        }
    }

    fn units(&self, shard: &Shard) -> u64 {
        shard.images.len() as u64 * u64::from(self.samples)
    }

    fn make(&self, shard: &Shard, runner: &Runner<'_>) -> Result<Made, StageError> {
        let asks: Vec<Ask> =
            shard.images.iter().map(|id| Ask { row: id.0, image: Some(*id), question: String::new() }).collect();
        let drawn = self.drawer.draw(&asks, self.samples, &self.sampling, (QUESTIONS, self.seed), runner)?;
        let mut rows = TableOutput::<QuestionRow>::new(runner.store)?;
        let mut rejects = Vec::new();
        let mut invalid = 0;
        for (&image, drawn) in shard.images.iter().zip(drawn) {
            let group = self.group(image);
            match drawn {
                Ok(Drawn { prompt_tokens, samples }) => {
                    for (n, sample) in (0..).zip(samples) {
                        let row = self.row(image, group, n, prompt_tokens, sample);
                        invalid += u64::from(!row.valid);
                        rows.push(row)?;
                    }
                }
                Err(refusal) => {
                    rejects.extend((0..self.samples).map(|n| reject(image, question_id(group, n), &refusal)))
                }
            }
        }
        let rows = rows.finish(runner.store)?;
        let counts = Counts { rows_in: self.units(shard), rows_out: rows.rows, rejects: rejects.len() as u64 };
        let figures = BTreeMap::from([("invalid".to_owned(), invalid), ("valid".to_owned(), rows.rows - invalid)]);
        let outputs = vec![rows, TableOutput::write_all(runner.store, rejects)?];
        Ok(Made { outputs, counts, figures, ..Made::default() })
    }
}

fn reject(image: ImageId, question: QuestionId, refusal: &Refusal) -> RejectRow {
    RejectRow {
        stage: QUESTIONS.into(),
        subject: format!("image {image}"),
        subject_row: None,
        subject_id: Some(question.0),
        reason: refusal.reason.into(),
        detail: refusal.detail.clone(),
        twin_id: None,
    }
}
