//! Answers: the Reasoner answers questions, several times each, and its answers vote. The Questioner's reward, the pseudo-labels and
//! the Reasoner's own training use the same stage.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use super::image_set::Refusal;
use super::prompt_sampler::{PromptRequest, PromptSampler, PromptSamples, Sampling};
use super::{Runner, ShardOutput, Stage, StageError, TableOutput, put_listing};
use crate::grading::{Vote, last_boxed, vote};
use crate::ids::{AnswerId, Digest, GroupId, ImageId, QuestionId};
use crate::reward::{Denominator, confidence};
use crate::store::{Action, ActionKey, Counts, Input, ObjectId, Store};
use crate::tables::{AnswerRow, CurriculumRow, PROFILE, QuestionRow, RejectRow, TableRow, VoteRow};

/// The stage's name, which also keys its randomness.
pub const ANSWERS: &str = "answers";
const VERSION: u32 = 1;

/// A question to be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuestionToAnswer {
    /// The question.
    pub question_id: QuestionId,
    /// Its image.
    pub image_id: ImageId,
    /// Its text; `None` for a sample of the Questioner that is no question, which is a rejected row here.
    pub text: Option<String>,
}

impl From<&QuestionRow> for QuestionToAnswer {
    fn from(row: &QuestionRow) -> Self {
        Self { question_id: row.question_id, image_id: row.image_id, text: row.question.clone() }
    }
}

impl From<&CurriculumRow> for QuestionToAnswer {
    fn from(row: &CurriculumRow) -> Self {
        Self { question_id: row.question_id, image_id: row.image_id, text: Some(row.problem.clone()) }
    }
}

/// How answers are drawn and counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AnswerSettings {
    /// Answers a question.
    pub samples: u32,
    /// How they are drawn.
    pub sampling: Sampling,
    /// What a majority is a share of.
    pub denominator: Denominator,
    /// Whether the greedy answer is asked for too.
    pub greedy: bool,
    /// Whether equal questions about one image share their answers. Each question's answers are then as likely as without it, and
    /// equal questions cost one.
    pub share_equal: bool,
}

/// The stage; see the module.
pub struct Answers<'a, 'd> {
    /// The Reasoner.
    pub sampler: &'a PromptSampler<'d>,
    /// What goes into every action: how the model computes.
    pub compute: &'a Value,
    /// How answers are drawn and counted.
    pub settings: AnswerSettings,
    /// The seed.
    pub seed: u64,
    /// The results that the questions come from.
    pub upstream: &'a [ActionKey],
}

/// Questions answered together.
pub struct Shard {
    asked: Vec<QuestionToAnswer>,
    listing: ObjectId,
}

/// Cuts questions into shards of `rows`.
///
/// # Errors
/// The store cannot be written to.
pub fn shards(store: &Store, asked: &[QuestionToAnswer], rows: usize) -> Result<Vec<Shard>, StageError> {
    asked
        .chunks(rows.max(1))
        .map(|asked| Ok(Shard { asked: asked.to_vec(), listing: put_listing(store, &asked)? }))
        .collect()
}

/// A question's answers.
struct QuestionSamples {
    drawn: Result<PromptSamples, Refusal>,
    greedy: Option<Result<PromptSamples, Refusal>>,
}

impl Answers<'_, '_> {
    /// What keys the answers of a question.
    fn row_key(&self, asked: &QuestionToAnswer) -> Digest {
        match (&asked.text, self.settings.share_equal) {
            (Some(text), true) => {
                Digest::derive("visplay 2026 question of an image", &[asked.image_id.0.as_bytes(), text.as_bytes()])
            }
            _ => asked.question_id.0,
        }
    }

    /// The answers of each different question, by its key.
    fn answered(&self, shard: &Shard, runner: &Runner<'_>) -> Result<BTreeMap<Digest, QuestionSamples>, StageError> {
        let mut requests: Vec<PromptRequest> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for asked in &shard.asked {
            let row = self.row_key(asked);
            if let Some(text) = &asked.text
                && seen.insert(row)
            {
                requests.push(PromptRequest { row, image: Some(asked.image_id), question: text.clone() });
            }
        }
        let settings = &self.settings;
        let key = (ANSWERS, self.seed);
        let drawn = self.sampler.sample(&requests, settings.samples, &settings.sampling, key, runner)?;
        let greedy: Vec<Option<_>> = if settings.greedy {
            let drawn = self.sampler.sample(&requests, 1, &settings.sampling.greedy(), key, runner)?;
            drawn.into_iter().map(Some).collect()
        } else {
            requests.iter().map(|_| None).collect()
        };
        let all = requests.iter().zip(drawn).zip(greedy);
        Ok(all.map(|((ask, drawn), greedy)| (ask.row, QuestionSamples { drawn, greedy })).collect())
    }

    fn group(&self, asked: &QuestionToAnswer) -> GroupId {
        let (model, prompt) = (self.sampler.model.id.0, self.sampler.prompt.id.0);
        let knobs = Digest::of(json!([self.sampler.compute(self.compute), self.settings]).to_string().as_bytes());
        let parts = [
            &self.seed.to_le_bytes()[..],
            model.as_bytes(),
            prompt.as_bytes(),
            asked.question_id.0.as_bytes(),
            knobs.as_bytes(),
        ];
        GroupId(Digest::derive("visplay 2026 answers group id", &parts))
    }

    fn rows(&self, asked: &QuestionToAnswer, answered: &QuestionSamples) -> Result<(Vec<AnswerRow>, VoteRow), Refusal> {
        let drawn = answered.drawn.as_ref().map_err(Clone::clone)?;
        let boxed: Vec<Option<&str>> = drawn.samples.iter().map(|sample| boxed(&sample.text)).collect();
        let vote = vote(&boxed);
        let group = self.group(asked);
        let row = |n: usize| {
            let sample = &drawn.samples[n];
            let number = n as u32;
            let id = Digest::derive("visplay 2026 answer id", &[group.0.as_bytes(), &number.to_le_bytes()]);
            AnswerRow {
                answer_id: AnswerId(id),
                question_id: asked.question_id,
                image_id: asked.image_id,
                group_id: group,
                sample: number,
                seed: self.seed,
                prompt_id: self.sampler.prompt.id,
                model_id: self.sampler.model.id,
                prompt_tokens: drawn.prompt_tokens,
                raw_text: sample.text.clone(),
                token_ids: sample.token_ids.clone(),
                logprobs: sample.logprobs.clone(),
                finish: sample.finish_reason.into(),
                boxed_answer: boxed[n].map(str::to_owned),
                vote_class: vote.class_of[n].map(|class| class as u32),
            }
        };
        let greedy = match &answered.greedy {
            Some(Ok(drawn)) => Some(drawn.samples.first().and_then(|sample| boxed_owned(&sample.text))),
            Some(Err(refusal)) => return Err(refusal.clone()),
            None => None,
        };
        Ok(((0..drawn.samples.len()).map(row).collect(), vote_row(asked, &vote, greedy, self.settings.denominator)))
    }
}

/// The content of the last box; an empty one is none.
fn boxed(text: &str) -> Option<&str> {
    last_boxed(text).filter(|answer| !answer.is_empty())
}

fn boxed_owned(text: &str) -> Option<String> {
    boxed(text).map(str::to_owned)
}

/// A vote as a row. `greedy` is the greedy answer where one was asked for.
fn vote_row(
    asked: &QuestionToAnswer,
    vote: &Vote,
    greedy: Option<Option<String>>,
    denominator: Denominator,
) -> VoteRow {
    let below = match denominator {
        Denominator::Sampled => vote.sampled(),
        Denominator::Answered => vote.answered(),
    };
    let lead = vote.majority_count() - vote.runner_up_count();
    let agrees = |greedy: &Option<String>| match (greedy, vote.majority_answer()) {
        (Some(greedy), Some(majority)) => crate::grading::compare(greedy, majority).equal,
        _ => false,
    };
    VoteRow {
        question_id: asked.question_id,
        image_id: asked.image_id,
        sampled: vote.sampled() as u32,
        boxed: vote.answered() as u32,
        class_answers: vote.classes.clone(),
        class_counts: vote.counts.iter().map(|&count| count as u32).collect(),
        majority_answer: vote.majority_answer().map(str::to_owned),
        majority_count: vote.majority_count() as u32,
        runner_up_count: vote.runner_up_count() as u32,
        confidence: confidence(vote, denominator),
        margin: (below > 0).then(|| lead as f64 / below as f64),
        greedy_agrees: greedy.as_ref().map(agrees),
        greedy_answer: greedy.flatten(),
    }
}

impl Stage for Answers<'_, '_> {
    type Shard = Shard;

    fn phase(&self) -> &'static str {
        "answering questions"
    }

    fn runs_concurrently(&self) -> bool {
        false
    }

    fn action(&self, shard: &Shard) -> Action {
        Action {
            stage: ANSWERS.into(),
            stage_version: VERSION,
            parameters: BTreeMap::from([
                ("compute".into(), self.sampler.compute(self.compute)),
                ("prompt".into(), json!(self.sampler.prompt.id)),
                ("settings".into(), json!(self.settings)),
            ]),
            seed: self.seed,
            inputs: vec![Input { role: "asked".into(), object: shard.listing }],
            model: Some(self.sampler.model.id.0),
            shard: BTreeMap::new(),
            schemas: BTreeMap::from([
                (AnswerRow::TABLE.into(), AnswerRow::schema_id()),
                (VoteRow::TABLE.into(), VoteRow::schema_id()),
                (RejectRow::TABLE.into(), RejectRow::schema_id()),
            ]),
            writer_profile: PROFILE.number,
        }
    }

    fn units(&self, shard: &Shard) -> u64 {
        shard.asked.len() as u64 * u64::from(self.settings.samples)
    }

    fn run_shard(&self, shard: &Shard, runner: &Runner<'_>) -> Result<ShardOutput, StageError> {
        let answered = self.answered(shard, runner)?;
        // Grading is the costly part after sampling, and each question is graded by itself.
        let rows: Vec<Result<(Vec<AnswerRow>, VoteRow), Refusal>> = shard
            .asked
            .par_iter()
            .map(|asked| match answered.get(&self.row_key(asked)) {
                Some(answered) if asked.text.is_some() => self.rows(asked, answered),
                _ => Err(Refusal::new("invalid_question", "the sample is no question of the form asked for")),
            })
            .collect();
        let mut answers = TableOutput::<AnswerRow>::new(runner.store)?;
        let (mut votes, mut rejects) = (Vec::new(), Vec::new());
        for (asked, rows) in shard.asked.iter().zip(rows) {
            match rows {
                Ok((of_question, vote)) => {
                    of_question.into_iter().try_for_each(|row| answers.push(row))?;
                    votes.push(vote);
                }
                Err(refusal) => rejects.push(reject(asked, refusal)),
            }
        }
        let counts =
            Counts { rows_in: shard.asked.len() as u64, rows_out: votes.len() as u64, rejects: rejects.len() as u64 };
        let figures = BTreeMap::from([("distinct".to_owned(), answered.len() as u64)]);
        let outputs = vec![
            answers.finish(runner.store)?,
            TableOutput::write_all(runner.store, votes)?,
            TableOutput::write_all(runner.store, rejects)?,
        ];
        Ok(ShardOutput { outputs, counts, figures, upstream: self.upstream.to_vec() })
    }
}

fn reject(asked: &QuestionToAnswer, refusal: Refusal) -> RejectRow {
    RejectRow {
        stage: ANSWERS.into(),
        subject: format!("question {}", asked.question_id),
        subject_row: None,
        subject_id: Some(asked.question_id.0),
        reason: refusal.reason.into(),
        detail: refusal.detail,
        twin_id: None,
    }
}
