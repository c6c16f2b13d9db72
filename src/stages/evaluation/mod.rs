//! The `evaluation` stage: a model answers the items of a benchmark, and a second stage computes
//! the share of correct answers with its confidence interval.
//!
//! | protocol | answers per item | result |
//! |---|---|---|
//! | `greedy` | one, of the likeliest tokens | correct if it equals the gold answer |
//! | `sampled` | several at the configured temperature | mean over answers, interval over items |
//! | `majority` | several, which vote | correct if the majority answer equals the gold answer |
//!
//! The protocols `sampled` and `majority` share their samples.

mod benchmark;
mod columns;

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::benchmark::{Benchmark, BenchmarkEntry, Item, RejectedItem};
pub use self::columns::BenchmarkColumns;
pub use crate::interval::{bootstrap, wilson};

use super::answers::boxed_content;
use super::prompt_sampler::{PromptRequest, PromptSampler, PromptSamples, Sampling};
use super::{
    ListedRows, Rejection, Result, Runner, ShardOutput, Stage, TableOutput, inputs, new_action, read_rows, schema,
};
use crate::grading::{compare, last_boxed, vote};
use crate::ids::{ItemId, ModelId};
use crate::random::Seed;
use crate::sampling::Sample;
use crate::store::{Action, Counts, StageResult};
use crate::tables::{Finish, PredictionRow, RejectRow, ScoreRow};

/// The stage's name, which also keys its randomness.
pub const EVALUATION: &str = "evaluation";
const VERSION: u32 = 1;

/// The protocols to run, and their sampling settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Protocols {
    /// Whether to run `greedy`: one answer per item, taking the likeliest token at every position.
    pub greedy: bool,
    /// Number of answers per item for `sampled`; 0 leaves the protocol out.
    pub sampled: u32,
    /// Number of answers per item that vote for `majority`; 0 leaves the protocol out.
    pub majority: u32,
    /// Temperature of `sampled` and `majority`.
    pub temperature: f64,
    /// Number of likeliest tokens to draw from; 0 draws from all.
    pub top_k: u32,
    /// Probability mass of the smallest set of likeliest tokens to draw from; 1 draws from all.
    pub top_p: f64,
    /// Maximum number of tokens of an answer.
    pub max_tokens: u32,
}

impl Default for Protocols {
    fn default() -> Self {
        Self { greedy: true, sampled: 1, majority: 0, temperature: 1.0, top_k: 0, top_p: 1.0, max_tokens: 1024 }
    }
}

impl Protocols {
    /// Returns the maximum number of tokens of the answers to an item.
    pub fn max_tokens_per_item(&self) -> u64 {
        let answers = u64::from(self.greedy) + u64::from(self.sampled) + u64::from(self.majority);
        answers * u64::from(self.max_tokens)
    }

    fn sampling(&self) -> Sampling {
        let Self { temperature, top_k, top_p, max_tokens, .. } = *self;
        Sampling { temperature, top_k, top_p, max_tokens }
    }
}

/// The `evaluation` stage, which answers the items.
pub struct Evaluation<'a, 'd> {
    /// Sampler of the evaluated model.
    pub sampler: &'a PromptSampler<'d>,
    /// The benchmark's name.
    pub benchmark: &'a str,
    /// Protocols to run.
    pub protocols: Protocols,
    /// Seed of the random streams.
    pub seed: u64,
}

impl Evaluation<'_, '_> {
    fn samples(&self) -> u32 {
        self.protocols.sampled.max(self.protocols.majority)
    }

    fn predictions(
        &self,
        item: &Item,
        sampled: Option<&Result<PromptSamples, Rejection>>,
        greedy: Option<&Result<PromptSamples, Rejection>>,
    ) -> Result<Vec<PredictionRow>, Rejection> {
        let mut rows = Vec::new();
        if let Some(prompt_samples) = greedy {
            let prompt_samples = prompt_samples.as_ref().map_err(Clone::clone)?;
            rows.extend(prompt_samples.samples.first().map(|sample| self.sample_row(item, "greedy", 0, sample)));
        }
        if let Some(prompt_samples) = sampled {
            let prompt_samples = prompt_samples.as_ref().map_err(Clone::clone)?;
            let answers = (0..).zip(prompt_samples.samples.iter().take(self.protocols.sampled as usize));
            rows.extend(answers.map(|(n, sample)| self.sample_row(item, "sampled", n, sample)));
            if self.protocols.majority > 0 {
                rows.push(self.majority_row(item, &prompt_samples.samples[..self.protocols.majority as usize]));
            }
        }
        Ok(rows)
    }

    fn sample_row(&self, item: &Item, protocol: &str, n: u32, sample: &Sample) -> PredictionRow {
        self.row(item, (protocol, n), boxed_content(&sample.text), Some(sample))
    }

    /// Returns the vote of several samples as one prediction, with the response of the first sample
    /// that voted for the majority.
    fn majority_row(&self, item: &Item, samples: &[Sample]) -> PredictionRow {
        let boxed: Vec<Option<&str>> = samples.iter().map(|sample| last_boxed(&sample.text)).collect();
        let vote = vote(&boxed);
        let first = vote.majority().and_then(|class| vote.class_of.iter().position(|voted| *voted == Some(class)));
        self.row(item, ("majority", 0), vote.majority_answer(), first.map(|n| &samples[n]))
    }

    fn row(
        &self,
        item: &Item,
        (protocol, n): (&str, u32),
        extracted: Option<&str>,
        sample: Option<&Sample>,
    ) -> PredictionRow {
        let comparison = extracted.map(|answer| compare(answer, &item.gold));
        let correct = comparison.is_some_and(|comparison| comparison.equal);
        let reason = comparison.map(|comparison| json!(comparison.rule).as_str().unwrap_or_default().to_owned());
        PredictionRow {
            benchmark: self.benchmark.to_owned(),
            item_id: item.item_id,
            category: item.category.clone(),
            image_id: Some(item.image_id),
            model_id: self.sampler.model.id,
            prompt_id: self.sampler.prompt.id,
            protocol: protocol.to_owned(),
            sample: n,
            question: item.question.clone(),
            response: sample.map(|sample| sample.text.clone()).unwrap_or_default(),
            token_ids: sample.map(|sample| sample.token_ids.clone()).unwrap_or_default(),
            logprobs: sample.map(|sample| sample.logprobs.clone()).unwrap_or_default(),
            finish: sample.map_or(Finish::Stop, |sample| sample.finish_reason.into()),
            extracted_answer: extracted.map(str::to_owned),
            gold: Some(item.gold.clone()),
            correct: Some(correct),
            mark: f64::from(u8::from(correct)),
            judge: "grader".to_owned(),
            judge_reason: reason.unwrap_or_else(|| "no-answer".to_owned()),
        }
    }
}

impl Stage for Evaluation<'_, '_> {
    type Shard = ListedRows<BenchmarkEntry>;
    const PHASE: &'static str = "answering a benchmark";
    const IS_CONCURRENT: bool = false;

    fn action(&self, shard: &Self::Shard) -> Action {
        Action {
            parameters: self
                .sampler
                .parameters([("benchmark", json!(self.benchmark)), ("protocols", json!(self.protocols))]),
            seed: self.seed,
            inputs: shard.inputs("items"),
            model: Some(self.sampler.model.id.0),
            ..new_action(EVALUATION, VERSION, [schema::<PredictionRow>(), schema::<RejectRow>()])
        }
    }

    fn units(&self, shard: &Self::Shard) -> u64 {
        shard.rows.len() as u64 * u64::from(self.samples() + u32::from(self.protocols.greedy))
    }

    fn run_shard(&self, shard: &Self::Shard, runner: &Runner<'_>) -> Result<ShardOutput> {
        let request = |item: &Item| PromptRequest {
            row: item.item_id.0,
            image: Some(item.image_id),
            question: item.question.clone(),
        };
        let items: Vec<&Item> = shard.rows.iter().filter_map(BenchmarkEntry::item).collect();
        let requests: Vec<PromptRequest> = items.iter().copied().map(request).collect();
        let key = (EVALUATION, self.seed);
        let draw = |samples: u32, sampling: &Sampling| self.sampler.sample(&requests, samples, sampling, key, runner);
        let sampled = (self.samples() > 0).then(|| draw(self.samples(), &self.protocols.sampling())).transpose()?;
        let greedy = self.protocols.greedy.then(|| draw(1, &self.protocols.sampling().greedy())).transpose()?;
        let judge =
            |i: usize| self.predictions(items[i], sampled.as_ref().map(|d| &d[i]), greedy.as_ref().map(|d| &d[i]));
        let judged: Vec<_> = (0..items.len()).into_par_iter().map(judge).collect();
        let mut rows = TableOutput::<PredictionRow>::new(runner.store)?;
        let rejected = shard.rows.iter().filter_map(BenchmarkEntry::rejected);
        let mut rejects: Vec<RejectRow> = rejected.map(|rejected| rejected.to_row(EVALUATION)).collect();
        let mut answered = 0;
        for (item, judged) in items.into_iter().zip(judged) {
            match judged {
                Ok(predictions) => {
                    answered += 1;
                    predictions.into_iter().try_for_each(|row| rows.push(row))?;
                }
                Err(rejection) => {
                    let (subject, id) = (format!("item {}", item.item_id), item.item_id.0);
                    rejects.push(rejection.into_row(EVALUATION, subject, Some(id)));
                }
            }
        }
        let counts = Counts { rows_in: shard.rows.len() as u64, rows_out: answered, rejects: rejects.len() as u64 };
        let outputs = vec![rows.finish(runner.store)?, TableOutput::write_all(runner.store, rejects)?];
        Ok(ShardOutput { outputs, counts, ..ShardOutput::default() })
    }
}

/// The stage that computes scores from predictions. An item whose prompt cannot be built is among
/// the rejects of the predictions and in no score.
pub struct Scores<'a> {
    /// Results that hold the predictions.
    pub predictions: &'a [StageResult],
    /// The benchmark's name.
    pub benchmark: &'a str,
    /// Id of the evaluated model.
    pub model: ModelId,
}

impl Stage for Scores<'_> {
    type Shard = ();
    const PHASE: &'static str = "scoring answers";

    fn action(&self, _shard: &()) -> Action {
        Action {
            parameters: BTreeMap::from([("benchmark".into(), json!(self.benchmark))]),
            inputs: inputs(self.predictions.iter().flat_map(|result| &result.outputs)),
            model: Some(self.model.0),
            ..new_action("evaluation.scores", VERSION, [schema::<ScoreRow>()])
        }
    }

    fn run_shard(&self, _shard: &(), runner: &Runner<'_>) -> Result<ShardOutput> {
        let rows: Vec<PredictionRow> = read_rows(runner.store, self.predictions)?;
        let scores = scores(self.benchmark, self.model, &rows);
        runner.progress.advance(1);
        let n = rows.len() as u64;
        let counts = Counts { rows_in: n, rows_out: n, rejects: 0 };
        let outputs = vec![TableOutput::write_all(runner.store, scores)?];
        let upstream = self.predictions.iter().map(|result| result.action).collect();
        Ok(ShardOutput { outputs, counts, upstream, ..ShardOutput::default() })
    }
}

/// Returns the scores of predictions: per protocol on the whole benchmark, then on each category.
pub fn scores(benchmark: &str, model: ModelId, rows: &[PredictionRow]) -> Vec<ScoreRow> {
    let protocols: BTreeSet<&str> = rows.iter().map(|row| row.protocol.as_str()).collect();
    let categories: BTreeSet<Option<&str>> = rows.iter().filter_map(|row| row.category.as_deref()).map(Some).collect();
    let mut scores = Vec::new();
    for protocol in protocols {
        for category in std::iter::once(None).chain(categories.iter().copied()) {
            let is_selected = |row: &&PredictionRow| {
                row.protocol == protocol && (category.is_none() || row.category.as_deref() == category)
            };
            let mut marks: BTreeMap<ItemId, (f64, u64)> = BTreeMap::new();
            for row in rows.iter().filter(is_selected) {
                let (sum, n) = marks.entry(row.item_id).or_default();
                (*sum, *n) = (*sum + row.mark, *n + 1);
            }
            let answers: u64 = marks.values().map(|(_, n)| n).sum();
            let means: Vec<f64> = marks.values().map(|(sum, n)| sum / *n as f64).collect();
            // The Wilson interval is for one answer per item; with several, items are resampled.
            let interval = if answers == marks.len() as u64 {
                wilson(means.iter().filter(|mean| **mean > 0.5).count() as u64, answers)
            } else {
                bootstrap(&means, Seed(0))
            };
            scores.push(ScoreRow {
                benchmark: benchmark.to_owned(),
                category: category.map(str::to_owned),
                model_id: model,
                protocol: protocol.to_owned(),
                metric: "accuracy".to_owned(),
                value: if means.is_empty() { 0.0 } else { means.iter().sum::<f64>() / means.len() as f64 },
                low: interval.map(|(low, _)| low),
                high: interval.map(|(_, high)| high),
                items: marks.len() as u32,
                answers,
            });
        }
    }
    scores
}
