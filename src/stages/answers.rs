//! The `answers` stage: the Reasoner answers each question several times, and its answers vote. The
//! Questioner's reward, the pseudo-labels and the Reasoner's own training all use it.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use super::prompt_sampler::{PromptRequest, PromptSampler, PromptSamples, Sampling};
use super::{ListedRows, Rejection, Result, Runner, ShardOutput, Stage, TableOutput, new_action, schema};
use crate::grading::{Vote, compare, last_boxed, vote};
use crate::ids::{AnswerId, Digest, ImageId, QuestionId};
use crate::reward::{Denominator, confidence, margin};
use crate::store::{Action, ActionKey, Counts};
use crate::tables::{AnswerRow, CurriculumRow, QuestionRow, RejectRow, VoteRow};

/// The stage's name, which also keys its randomness.
pub const ANSWERS: &str = "answers";
const VERSION: u32 = 1;

/// A question to be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuestionToAnswer {
    /// Id of the question.
    pub question_id: QuestionId,
    /// Id of its image.
    pub image_id: ImageId,
    /// Text of the question; `None` for an invalid sample, which is rejected here.
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

/// Settings for sampling and counting answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AnswerSettings {
    /// Number of answers per question.
    pub samples: u32,
    /// Sampling settings.
    pub sampling: Sampling,
    /// The samples that the confidence is a share of.
    pub denominator: Denominator,
    /// Whether to draw the greedy answer as well.
    pub greedy: bool,
    /// Whether equal questions about one image share their answers. Each question's answers have
    /// the same distribution either way, and equal questions cost as much as one.
    pub share_equal: bool,
}

/// The `answers` stage.
pub struct Answers<'a, 'd> {
    /// The Reasoner's sampler.
    pub sampler: &'a PromptSampler<'d>,
    /// Settings for sampling and counting answers.
    pub settings: AnswerSettings,
    /// Seed of the random streams.
    pub seed: u64,
    /// Keys of the results that the questions come from.
    pub upstream: &'a [ActionKey],
}

/// The samples of a question.
struct QuestionSamples {
    prompt_samples: Result<PromptSamples, Rejection>,
    greedy: Option<Result<PromptSamples, Rejection>>,
}

impl Answers<'_, '_> {
    /// Returns the key of the random streams of a question's answers.
    fn row_key(&self, question: &QuestionToAnswer) -> Digest {
        match (&question.text, self.settings.share_equal) {
            (Some(text), true) => {
                Digest::derive("visplay 2026 question of an image", &[question.image_id.0.as_bytes(), text.as_bytes()])
            }
            _ => question.question_id.0,
        }
    }

    /// Draws the answers of each distinct question and returns them by its key.
    fn draw(&self, questions: &[QuestionToAnswer], runner: &Runner<'_>) -> Result<BTreeMap<Digest, QuestionSamples>> {
        let mut requests: Vec<PromptRequest> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for question in questions {
            let row = self.row_key(question);
            if let Some(text) = &question.text
                && seen.insert(row)
            {
                requests.push(PromptRequest { row, image: Some(question.image_id), question: text.clone() });
            }
        }
        let settings = &self.settings;
        let key = (ANSWERS, self.seed);
        let prompt_samples = self.sampler.sample(&requests, settings.samples, &settings.sampling, key, runner)?;
        let mut greedy = match settings.greedy {
            true => self.sampler.sample(&requests, 1, &settings.sampling.greedy(), key, runner)?,
            false => Vec::new(),
        }
        .into_iter();
        let samples =
            prompt_samples.into_iter().map(|prompt_samples| QuestionSamples { prompt_samples, greedy: greedy.next() });
        Ok(requests.iter().map(|request| request.row).zip(samples).collect())
    }

    fn rows(
        &self,
        question: &QuestionToAnswer,
        question_samples: &QuestionSamples,
    ) -> Result<(Vec<AnswerRow>, VoteRow), Rejection> {
        let prompt_samples = question_samples.prompt_samples.as_ref().map_err(Clone::clone)?;
        let boxed_answers: Vec<Option<&str>> =
            prompt_samples.samples.iter().map(|sample| boxed_content(&sample.text)).collect();
        let vote = vote(&boxed_answers);
        let domain = "visplay 2026 answers group id";
        let group = self.sampler.group_id(domain, self.seed, question.question_id.0, &self.settings);
        let row = |n: usize| {
            let sample = &prompt_samples.samples[n];
            let number = n as u32;
            let id = Digest::derive("visplay 2026 answer id", &[group.0.as_bytes(), &number.to_le_bytes()]);
            AnswerRow {
                answer_id: AnswerId(id),
                question_id: question.question_id,
                image_id: question.image_id,
                group_id: group,
                sample: number,
                seed: self.seed,
                prompt_id: self.sampler.prompt.id,
                model_id: self.sampler.model.id,
                prompt_tokens: prompt_samples.prompt_tokens,
                raw_text: sample.text.clone(),
                token_ids: sample.token_ids.clone(),
                logprobs: sample.logprobs.clone(),
                finish: sample.finish_reason.into(),
                boxed_answer: boxed_answers[n].map(str::to_owned),
                vote_class: vote.class_of[n].map(|class| class as u32),
            }
        };
        let greedy =
            question_samples.greedy.as_ref().map(|greedy| greedy.as_ref().map_err(Clone::clone)).transpose()?;
        let greedy = greedy.map(|greedy| greedy.samples.first().and_then(|sample| boxed_content(&sample.text)));
        let answers = (0..prompt_samples.samples.len()).map(row).collect();
        Ok((answers, vote_row(question, &vote, greedy, self.settings.denominator)))
    }
}

/// Returns the content of the last `\\boxed{}`; `None` where it is empty.
pub(super) fn boxed_content(text: &str) -> Option<&str> {
    last_boxed(text).filter(|answer| !answer.is_empty())
}

/// Returns a vote as a row. `greedy` is the greedy answer, where one was drawn.
fn vote_row(
    question: &QuestionToAnswer,
    vote: &Vote,
    greedy: Option<Option<&str>>,
    denominator: Denominator,
) -> VoteRow {
    let agrees = |greedy: Option<&str>| {
        greedy.zip(vote.majority_answer()).is_some_and(|(greedy, majority)| compare(greedy, majority).equal)
    };
    VoteRow {
        question_id: question.question_id,
        image_id: question.image_id,
        sampled: vote.sampled() as u32,
        boxed: vote.answered() as u32,
        class_answers: vote.classes.clone(),
        class_counts: vote.counts.iter().map(|&count| count as u32).collect(),
        majority_answer: vote.majority_answer().map(str::to_owned),
        majority_count: vote.majority_count() as u32,
        runner_up_count: vote.runner_up_count() as u32,
        confidence: confidence(vote, denominator),
        margin: margin(vote, denominator),
        greedy_agrees: greedy.map(agrees),
        greedy_answer: greedy.flatten().map(str::to_owned),
    }
}

impl Stage for Answers<'_, '_> {
    type Shard = ListedRows<QuestionToAnswer>;
    const PHASE: &'static str = "answering questions";
    const IS_CONCURRENT: bool = false;

    fn needs_trainer(&self) -> bool {
        self.sampler.model.is_in_training
    }

    fn action(&self, shard: &Self::Shard) -> Action {
        Action {
            parameters: self.sampler.parameters([("settings", json!(self.settings))]),
            seed: self.seed,
            inputs: shard.inputs("asked"),
            model: Some(self.sampler.model.id.0),
            ..new_action(ANSWERS, VERSION, [schema::<AnswerRow>(), schema::<VoteRow>(), schema::<RejectRow>()])
        }
    }

    fn units(&self, shard: &Self::Shard) -> u64 {
        shard.rows.len() as u64 * u64::from(self.settings.samples)
    }

    fn run_shard(&self, shard: &Self::Shard, runner: &Runner<'_>) -> Result<ShardOutput> {
        let question_samples = self.draw(&shard.rows, runner)?;
        // Grading is the most expensive part after sampling, so questions are graded in parallel.
        let rows: Vec<Result<(Vec<AnswerRow>, VoteRow), Rejection>> = shard
            .rows
            .par_iter()
            .map(|question| match question_samples.get(&self.row_key(question)) {
                Some(question_samples) if question.text.is_some() => self.rows(question, question_samples),
                _ => Err(Rejection::new("invalid_question", "the sample is no question of the form asked for")),
            })
            .collect();
        let mut answers = TableOutput::<AnswerRow>::new(runner.store)?;
        let (mut votes, mut rejects) = (Vec::new(), Vec::new());
        for (question, rows) in shard.rows.iter().zip(rows) {
            match rows {
                Ok((of_question, vote)) => {
                    of_question.into_iter().try_for_each(|row| answers.push(row))?;
                    votes.push(vote);
                }
                Err(rejection) => {
                    let (subject, id) = (format!("question {}", question.question_id), question.question_id.0);
                    rejects.push(rejection.into_row(ANSWERS, subject, Some(id)));
                }
            }
        }
        let rows_in = shard.rows.len() as u64;
        let counts = Counts { rows_in, rows_out: votes.len() as u64, rejects: rejects.len() as u64 };
        let statistics = BTreeMap::from([("distinct".to_owned(), question_samples.len() as u64)]);
        let outputs = vec![
            answers.finish(runner.store)?,
            TableOutput::write_all(runner.store, votes)?,
            TableOutput::write_all(runner.store, rejects)?,
        ];
        Ok(ShardOutput { outputs, counts, statistics, upstream: self.upstream.to_vec() })
    }
}
