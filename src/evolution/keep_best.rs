//! Keep-best: a round that made the Reasoner worse is kept but not current, judged without labels.

use std::collections::HashMap;

use super::ground::Ground;
use super::report::KeepBest;
use super::slices::{ranked, seed_of};
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
    ground: &Ground<'_>,
    before: &StoredModel,
    after: &StoredModel,
) -> Result<(KeepBest, Vec<StageResult>), StageError> {
    let all = image_ids(ground.runner.store, &ground.image_objects())?;
    let round = &ground.pipeline.round;
    let order = seed_of(round.seed, &["keep best"]);
    let images = round.keep_best_questions.div_ceil(round.questions_per_image) as usize;
    let mut chosen = ranked(&all, order, |id: ImageId| id.0);
    chosen.truncate(images);
    let set = ground.image_set(&chosen);
    let mut probe = probe(ground, &chosen, &set, order)?;
    let before = score(ground, before, &mut probe, &set, order)?;
    let after = score(ground, after, &mut probe, &set, order)?;
    let questions = probe.majority.len() as u64;
    Ok((KeepBest { score: after, before, questions, current: after + round.keep_best_slack >= before }, probe.results))
}

fn probe(ground: &Ground<'_>, chosen: &[ImageId], images: &ImageSet<'_>, seed: u64) -> Result<Probe, StageError> {
    let (pipeline, runner) = (ground.pipeline, ground.runner);
    let model = ground.handle(&ground.base);
    let sampler = ground.questioner(&model, images);
    let stage = Questions {
        sampler: &sampler,
        compute: &ground.compute,
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
    let sampler = ground.reasoner(&model, images);
    let stage = Answers { sampler: &sampler, compute: &ground.compute, settings, seed, upstream: &upstream };
    let voted = runner.run(&stage, &answers::shards(runner.store, &asked, rows)?)?.results;
    let votes: Vec<VoteRow> = read_rows(runner.store, &voted)?;
    let majority = votes.into_iter().filter_map(|vote| Some((vote.question_id, vote.majority_answer?))).collect();
    results.extend(voted);
    Ok(Probe { asked, majority, results })
}

/// The share of the probe's questions on which a Reasoner's greedy answer is the base's majority answer.
fn score(
    ground: &Ground<'_>,
    reasoner: &StoredModel,
    probe: &mut Probe,
    images: &ImageSet<'_>,
    seed: u64,
) -> Result<f64, StageError> {
    let (pipeline, runner) = (ground.pipeline, ground.runner);
    let model = ground.handle(reasoner);
    let sampler = ground.reasoner(&model, images);
    let settings = AnswerSettings {
        samples: 1,
        sampling: pipeline.sampling.reasoner.greedy(),
        denominator: pipeline.curriculum.label_denominator,
        greedy: false,
        share_equal: true,
    };
    let upstream: Vec<ActionKey> = probe.results.iter().map(|result| result.action).collect();
    let stage = Answers { sampler: &sampler, compute: &ground.compute, settings, seed, upstream: &upstream };
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
