//! Keep-best: a round that made the Reasoner worse, judged without labels, does not become current.

use std::collections::HashMap;

use super::Result;
use super::context::EvolutionContext;
use super::report::KeepBestScore;
use super::seeds::SeedPurpose;
use super::slices::rank_by_seed;
use crate::grading::compare;
use crate::ids::{ImageId, QuestionId};
use crate::stages::answers::{AnswerSettings, QuestionToAnswer};
use crate::stages::image_set::{ImageSet, image_ids};
use crate::stages::model::StoredModel;
use crate::stages::prompt_sampler::Sampling;
use crate::stages::read_rows;
use crate::store::StageResult;
use crate::tables::{AnswerRow, QuestionRow, VoteRow};

/// The base model's questions and the answers of its majority; sampled once in an evolution.
struct Probe {
    questions: Vec<QuestionToAnswer>,
    majority: HashMap<QuestionId, String>,
    results: Vec<StageResult>,
}

/// Scores the Reasoner after a round and the one before it, and returns all results used.
pub(super) fn score_round(
    context: &EvolutionContext<'_>,
    before: &StoredModel,
    after: &StoredModel,
) -> Result<(KeepBestScore, Vec<StageResult>)> {
    let all = image_ids(context.runner.store, &context.image_objects())?;
    let round = &context.pipeline.round;
    let mut probe_images = rank_by_seed(&all, context.seed(SeedPurpose::KeepBest), |id: ImageId| id.0);
    probe_images.truncate(round.keep_best_questions.div_ceil(round.questions_per_image) as usize);
    let images = context.image_set(&probe_images);
    let mut probe = sample_probe(context, &probe_images, &images)?;
    let before = score_reasoner(context, before, &mut probe, &images)?;
    let after = score_reasoner(context, after, &mut probe, &images)?;
    let questions = probe.majority.len() as u64;
    let current = after + round.keep_best_slack >= before;
    Ok((KeepBestScore { score: after, before, questions, current }, probe.results))
}

fn sample_probe(context: &EvolutionContext<'_>, probe_images: &[ImageId], images: &ImageSet<'_>) -> Result<Probe> {
    let (pipeline, store) = (context.pipeline, context.runner.store);
    let model = context.handle(&context.base);
    let samples = pipeline.round.questions_per_image;
    let mut results = context.sample_questions(&model, probe_images, images, samples, SeedPurpose::KeepBest)?;
    let rows: Vec<QuestionRow> = read_rows(store, &results)?;
    let questions: Vec<QuestionToAnswer> = rows.iter().filter(|row| row.valid).map(QuestionToAnswer::from).collect();
    let settings = answer_settings(context, pipeline.round.keep_best_samples, pipeline.sampling.reasoner);
    let vote_results = context.sample_answers(&model, &questions, images, settings, SeedPurpose::KeepBest, &results)?;
    let votes: Vec<VoteRow> = read_rows(store, &vote_results)?;
    let majority = votes.into_iter().filter_map(|vote| Some((vote.question_id, vote.majority_answer?))).collect();
    results.extend(vote_results);
    Ok(Probe { questions, majority, results })
}

/// Returns the share of the probe's questions on which a Reasoner's greedy answer equals the base
/// model's majority answer.
fn score_reasoner(
    context: &EvolutionContext<'_>,
    reasoner: &StoredModel,
    probe: &mut Probe,
    images: &ImageSet<'_>,
) -> Result<f64> {
    let model = context.handle(reasoner);
    let settings = answer_settings(context, 1, context.pipeline.sampling.reasoner.greedy());
    let Probe { questions, majority, results } = probe;
    let answer_results = context.sample_answers(&model, questions, images, settings, SeedPurpose::KeepBest, results)?;
    let answers: Vec<AnswerRow> = read_rows(context.runner.store, &answer_results)?;
    let agrees = |row: &&AnswerRow| match (&row.boxed_answer, majority.get(&row.question_id)) {
        (Some(answer), Some(majority)) => compare(answer, majority).equal,
        _ => false,
    };
    let agreeing = answers.iter().filter(agrees).count();
    results.extend(answer_results);
    Ok(agreeing as f64 / majority.len().max(1) as f64)
}

fn answer_settings(context: &EvolutionContext<'_>, samples: u32, sampling: Sampling) -> AnswerSettings {
    let denominator = context.pipeline.curriculum.label_denominator;
    AnswerSettings { samples, sampling, denominator, greedy: false, share_equal: true }
}
