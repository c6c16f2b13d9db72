//! Keep-best: a round that made the Reasoner worse is kept but not current, judged without labels.

use std::collections::HashMap;

use super::context::EvolutionContext;
use super::report::KeepBestScore;
use super::slices::{derive_seed, rank_by_seed};
use crate::grading::compare;
use crate::ids::{ImageId, QuestionId};
use crate::stages::answers::{self, AnswerSettings, Answers, QuestionToAnswer};
use crate::stages::image_set::{ImageSet, image_ids};
use crate::stages::model::StoredModel;
use crate::stages::questions::{self, Questions};
use crate::stages::{StageError, read_rows};
use crate::store::{ActionKey, StageResult};
use crate::tables::{AnswerRow, QuestionRow, VoteRow};

/// The base model's questions and its majority's answers: asked and voted on once in an evolution.
struct Probe {
    asked: Vec<QuestionToAnswer>,
    majority: HashMap<QuestionId, String>,
    results: Vec<StageResult>,
}

/// Scores a round's Reasoner and the one that it started from. Also the results that this took.
pub(super) fn judge(
    context: &EvolutionContext<'_>,
    before: &StoredModel,
    after: &StoredModel,
) -> Result<(KeepBestScore, Vec<StageResult>), StageError> {
    let all = image_ids(context.runner.store, &context.image_objects())?;
    let round = &context.pipeline.round;
    let order = derive_seed(round.seed, &["keep best"]);
    let images = round.keep_best_questions.div_ceil(round.questions_per_image) as usize;
    let mut chosen = rank_by_seed(&all, order, |id: ImageId| id.0);
    chosen.truncate(images);
    let set = context.image_set(&chosen);
    let mut probe = probe(context, &chosen, &set, order)?;
    let before = score(context, before, &mut probe, &set, order)?;
    let after = score(context, after, &mut probe, &set, order)?;
    let questions = probe.majority.len() as u64;
    Ok((
        KeepBestScore { score: after, before, questions, current: after + round.keep_best_slack >= before },
        probe.results,
    ))
}

fn probe(
    context: &EvolutionContext<'_>,
    chosen: &[ImageId],
    images: &ImageSet<'_>,
    seed: u64,
) -> Result<Probe, StageError> {
    let (pipeline, runner) = (context.pipeline, context.runner);
    let model = context.handle(&context.base);
    let sampler = context.questioner(&model, images);
    let stage = Questions {
        sampler: &sampler,
        form: pipeline.questioner.question_form(),
        sampling: pipeline.sampling.questioner,
        samples: pipeline.round.questions_per_image,
        seed,
    };
    let rows = pipeline.round.shard_rows as usize;
    let mut results = runner.run(&stage, &questions::shards(runner.store, chosen, rows)?)?.results;
    let questions: Vec<QuestionRow> = read_rows(runner.store, &results)?;
    let asked: Vec<QuestionToAnswer> = questions.iter().filter(|row| row.valid).map(QuestionToAnswer::from).collect();
    let upstream: Vec<ActionKey> = results.iter().map(|result| result.action).collect();
    let settings = AnswerSettings {
        samples: pipeline.round.keep_best_samples,
        sampling: pipeline.sampling.reasoner,
        denominator: pipeline.curriculum.label_denominator,
        greedy: false,
        share_equal: true,
    };
    let sampler = context.reasoner(&model, images);
    let stage = Answers { sampler: &sampler, settings, seed, upstream: &upstream };
    let voted = runner.run(&stage, &answers::shards(runner.store, &asked, rows)?)?.results;
    let votes: Vec<VoteRow> = read_rows(runner.store, &voted)?;
    let majority = votes.into_iter().filter_map(|vote| Some((vote.question_id, vote.majority_answer?))).collect();
    results.extend(voted);
    Ok(Probe { asked, majority, results })
}

/// The share of the probe's questions on which a Reasoner's greedy answer is the base's majority answer.
fn score(
    context: &EvolutionContext<'_>,
    reasoner: &StoredModel,
    probe: &mut Probe,
    images: &ImageSet<'_>,
    seed: u64,
) -> Result<f64, StageError> {
    let (pipeline, runner) = (context.pipeline, context.runner);
    let model = context.handle(reasoner);
    let sampler = context.reasoner(&model, images);
    let settings = AnswerSettings {
        samples: 1,
        sampling: pipeline.sampling.reasoner.greedy(),
        denominator: pipeline.curriculum.label_denominator,
        greedy: false,
        share_equal: true,
    };
    let upstream: Vec<ActionKey> = probe.results.iter().map(|result| result.action).collect();
    let stage = Answers { sampler: &sampler, settings, seed, upstream: &upstream };
    let shards = answers::shards(runner.store, &probe.asked, pipeline.round.shard_rows as usize)?;
    let results = runner.run(&stage, &shards)?.results;
    let answers: Vec<AnswerRow> = read_rows(runner.store, &results)?;
    let agrees = |row: &&AnswerRow| match (&row.boxed_answer, probe.majority.get(&row.question_id)) {
        (Some(given), Some(majority)) => compare(given, majority).equal,
        _ => false,
    };
    let right = answers.iter().filter(agrees).count();
    probe.results.extend(results);
    Ok(right as f64 / probe.majority.len().max(1) as f64)
}
