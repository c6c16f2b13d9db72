//! The training of each role in a round: samples, what they are worth, an update, and again.

use std::collections::HashMap;

use super::context::EvolutionContext;
use super::slices::batches;
use crate::ids::{ImageId, QuestionId};
use crate::stages::answers::{self, AnswerSettings, Answers, QuestionToAnswer};
use crate::stages::image_set::ImageSet;
use crate::stages::model::{ModelHandle, StoredModel};
use crate::stages::questions::{self, Questions};
use crate::stages::rewards::{AdvantageSettings, RewardInputs, Rewards};
use crate::stages::update::{TrainingChain, TrainingSpec, UpdateSettings};
use crate::stages::{StageError, read_rows};
use crate::store::StageResult;
use crate::tables::{CurriculumRow, MetricRow, QuestionRow, Role};

/// What training a role gave.
pub(super) struct TrainedRole {
    /// The role's model afterwards.
    pub(super) model: StoredModel,
    /// Every result, in order.
    pub(super) results: Vec<StageResult>,
    /// The rows of the steps.
    pub(super) metrics: Vec<MetricRow>,
}

/// Trains the Questioner on a round's images against a Reasoner that stays as it is.
pub(super) fn questioner(
    context: &EvolutionContext<'_>,
    round: u32,
    (questioner, reasoner): (&StoredModel, &StoredModel),
    slice: &[ImageId],
    images: &ImageSet<'_>,
) -> Result<TrainedRole, StageError> {
    let (pipeline, runner) = (context.pipeline, context.runner);
    let settings = &pipeline.update.questioner;
    let spec = training_spec(context, Role::Questioner, questioner, images, round)?;
    let chain = TrainingChain::new(spec, runner.store);
    // On a card the judge's weights leave before an update, which takes nearly all of the memory there; on the host they stay.
    let staying = context.device.is_cpu().then(|| context.handle(reasoner));
    let order = context.seed(round, &["questioner", "order"]);
    let steps = batches(slice, settings.steps, settings.prompts_per_step as usize, order, |id: ImageId| id.0);
    let mut results = Vec::new();
    for (step, batch) in (0..).zip(&steps) {
        let name = format!("step {step}");
        let asked = {
            let model = chain.model();
            let sampler = context.questioner(&model, images);
            let stage = Questions {
                sampler: &sampler,
                form: pipeline.questioner.question_form(),
                sampling: pipeline.sampling.questioner,
                samples: pipeline.questioner.group_size,
                seed: context.seed(round, &["questioner", &name, "questions"]),
            };
            runner.run(&stage, &questions::shards(runner.store, batch, rows(context))?)?.results
        };
        let rows_asked: Vec<QuestionRow> = read_rows(runner.store, &asked)?;
        let upstream: Vec<_> = asked.iter().map(|result| result.action).collect();
        let questions: Vec<QuestionToAnswer> = rows_asked.iter().map(QuestionToAnswer::from).collect();
        let votes = |judge: &ModelHandle<'_>| -> Result<Vec<StageResult>, StageError> {
            let sampler = context.reasoner(judge, images);
            let stage = Answers {
                sampler: &sampler,
                settings: AnswerSettings {
                    samples: pipeline.questioner.reward_samples,
                    sampling: pipeline.sampling.reasoner,
                    denominator: pipeline.questioner.reward_denominator,
                    greedy: false,
                    share_equal: pipeline.questioner.share_equal,
                },
                seed: context.seed(round, &["questioner", &name, "answers"]),
                upstream: &upstream,
            };
            Ok(runner.run(&stage, &answers::shards(runner.store, &questions, rows(context))?)?.results)
        };
        let voted = match &staying {
            Some(judge) => votes(judge)?,
            None => votes(&context.handle(reasoner))?,
        };
        let stage = Rewards {
            inputs: RewardInputs::Questioner {
                questions: &asked,
                votes: &voted,
                settings: &pipeline.questioner.reward(),
                denominator: pipeline.questioner.reward_denominator,
            },
            preset: &pipeline.preset,
            step,
            advantage: advantage(settings, pipeline.sampling.questioner.max_tokens),
        };
        let rewards = runner.run(&stage, &[()])?.results.remove(0);
        if chain.step(asked.clone(), rewards.clone(), runner)? {
            say_step(context, &chain, Role::Questioner, settings.steps)?;
        }
        results.extend(asked.into_iter().chain(voted).chain([rewards]));
    }
    finished(context, &chain, results)
}

/// Trains the Reasoner on a curriculum.
pub(super) fn reasoner(
    context: &EvolutionContext<'_>,
    round: u32,
    reasoner: &StoredModel,
    curriculum: &StageResult,
    images: &ImageSet<'_>,
) -> Result<TrainedRole, StageError> {
    let (pipeline, runner) = (context.pipeline, context.runner);
    let settings = &pipeline.update.reasoner;
    let rows_kept: Vec<CurriculumRow> = read_rows(runner.store, std::slice::from_ref(curriculum))?;
    let texts: HashMap<QuestionId, String> =
        rows_kept.iter().map(|row| (row.question_id, row.problem.clone())).collect();
    let spec = TrainingSpec { texts, ..training_spec(context, Role::Reasoner, reasoner, images, round)? };
    let chain = TrainingChain::new(spec, runner.store);
    let refs: Vec<&CurriculumRow> = rows_kept.iter().collect();
    let order = context.seed(round, &["reasoner", "order"]);
    let id = |row: &CurriculumRow| row.question_id.0;
    let steps = batches(&refs, settings.steps, settings.prompts_per_step as usize, order, id);
    let mut results = Vec::new();
    for (step, batch) in (0..).zip(&steps) {
        let questions: Vec<QuestionToAnswer> = batch.iter().map(|row| QuestionToAnswer::from(*row)).collect();
        let answered = {
            let model = chain.model();
            let sampler = context.reasoner(&model, images);
            let stage = Answers {
                sampler: &sampler,
                settings: AnswerSettings {
                    samples: pipeline.reasoner.group_size,
                    sampling: pipeline.sampling.reasoner,
                    denominator: pipeline.curriculum.label_denominator,
                    greedy: false,
                    // The samples of a row are a group of their own.
                    share_equal: false,
                },
                seed: context.seed(round, &["reasoner", &format!("step {step}"), "answers"]),
                upstream: &[curriculum.action],
            };
            runner.run(&stage, &answers::shards(runner.store, &questions, rows(context))?)?.results
        };
        let stage = Rewards {
            inputs: RewardInputs::Reasoner {
                answers: &answered,
                curriculum: std::slice::from_ref(curriculum),
                settings: &pipeline.reasoner.reward(),
            },
            preset: &pipeline.preset,
            step,
            advantage: advantage(settings, pipeline.sampling.reasoner.max_tokens),
        };
        let rewards = runner.run(&stage, &[()])?.results.remove(0);
        if chain.step(answered.clone(), rewards.clone(), runner)? {
            say_step(context, &chain, Role::Reasoner, settings.steps)?;
        }
        results.extend(answered.into_iter().chain([rewards]));
    }
    finished(context, &chain, results)
}

/// Returns the spec of a role's training in a round, without question texts.
fn training_spec<'t>(
    context: &'t EvolutionContext<'_>,
    role: Role,
    base: &'t StoredModel,
    images: &'t ImageSet<'t>,
    round: u32,
) -> Result<TrainingSpec<'t>, StageError> {
    let (update, sampling) = (&context.pipeline.update, &context.pipeline.sampling);
    let (name, settings, sampling, prompt) = match role {
        Role::Questioner => ("questioner", &update.questioner, &sampling.questioner, &context.questioner_prompt),
        Role::Reasoner => ("reasoner", &update.reasoner, &sampling.reasoner, &context.reasoner_prompt),
    };
    Ok(TrainingSpec {
        role,
        settings,
        compute: &context.compute,
        dtype: context.pipeline.model.dtype.dtype(),
        device: &context.device,
        ops: context.pipeline.model.ops,
        base,
        assets: context.assets()?,
        images,
        prompt,
        texts: HashMap::new(),
        temperature: sampling.temperature,
        max_tokens: sampling.max_tokens,
        seed: context.seed(round, &[name, "adapters"]),
    })
}

fn advantage(settings: &UpdateSettings, max_tokens: u32) -> AdvantageSettings {
    AdvantageSettings {
        aggregation: settings.aggregation,
        drop_zero_std: settings.drop_zero_std,
        overlong_tokens: settings.overlong_tokens,
        max_tokens,
    }
}

fn rows(context: &EvolutionContext<'_>) -> usize {
    context.pipeline.round.shard_rows as usize
}

/// Says how the step that was just made went.
fn say_step(
    context: &EvolutionContext<'_>,
    chain: &TrainingChain<'_>,
    role: Role,
    steps: u32,
) -> Result<(), StageError> {
    let results = chain.results();
    let Some(last) = results.last() else { return Ok(()) };
    let metrics: Vec<MetricRow> = read_rows(context.runner.store, std::slice::from_ref(last))?;
    let Some(row) = metrics.first() else { return Ok(()) };
    let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    let who = if role == Role::Questioner { "Questioner" } else { "Reasoner" };
    context.runner.progress.say(&format!(
        "{who} step {} of {steps}: reward {}, entropy {}, gradient {}",
        row.step + 1,
        figure(row.reward_mean),
        figure(row.entropy),
        figure(row.grad_norm)
    ));
    Ok(())
}

fn finished(
    context: &EvolutionContext<'_>,
    chain: &TrainingChain<'_>,
    mut results: Vec<StageResult>,
) -> Result<TrainedRole, StageError> {
    let steps = chain.results();
    let metrics = read_rows(context.runner.store, &steps)?;
    results.extend(steps);
    Ok(TrainedRole { model: chain.finish()?, results, metrics })
}
