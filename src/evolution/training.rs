//! The training of each role in a round: repeated steps of sampling, rewards and an update.

use std::collections::HashMap;

use super::Result;
use super::context::EvolutionContext;
use super::seeds::SeedPurpose;
use super::slices::batches;
use crate::ids::{ImageId, QuestionId};
use crate::stages::answers::{AnswerSettings, QuestionToAnswer};
use crate::stages::image_set::ImageSet;
use crate::stages::model::{ModelHandle, StoredModel};
use crate::stages::prompt_sampler::Sampling;
use crate::stages::read_rows;
use crate::stages::rewards::{RewardInputs, Rewards};
use crate::stages::update::{TrainingChain, TrainingSpec, UpdateSettings};
use crate::store::{StageResult, WorkerRole};
use crate::tables::{CurriculumRow, MetricRow, QuestionRow, Role};
use crate::training::grpo::AdvantageSettings;

/// A role after its training in a round.
pub(super) struct TrainedRole {
    /// The trained model.
    pub(super) model: StoredModel,
    /// Every result of the training, in order.
    pub(super) results: Vec<StageResult>,
    /// Training metrics, a row for each step.
    pub(super) metrics: Vec<MetricRow>,
}

/// Trains the Questioner on a round's images. The Reasoner that answers stays as it is.
pub(super) fn train_questioner(
    context: &EvolutionContext<'_>,
    round: u32,
    (questioner, reasoner): (&StoredModel, &StoredModel),
    slice: &[ImageId],
    images: &ImageSet<'_>,
) -> Result<TrainedRole> {
    let (pipeline, runner) = (context.pipeline, context.runner);
    let settings = &pipeline.update.questioner;
    let spec = training_spec(context, round, Role::Questioner, questioner, images, HashMap::new())?;
    let chain = TrainingChain::new(spec, runner.store);
    // On a GPU the Reasoner's weights are dropped before an update, which needs nearly all of its
    // memory. A worker that makes no updates keeps them.
    let keeps_judge = context.device.is_cpu() || runner.role == WorkerRole::Judge;
    let resident = keeps_judge.then(|| context.handle(reasoner));
    let order = context.seed(SeedPurpose::StepOrder { round, role: Role::Questioner });
    let steps = batches(slice, settings.steps, settings.prompts_per_step as usize, order, |id: ImageId| id.0);
    let mut results = Vec::new();
    for (step, batch) in (0..).zip(&steps) {
        runner.progress.part(&format!("Questioner, step {} of {}", step + 1, steps.len()));
        let (group, purpose) = (pipeline.questioner.group_size, SeedPurpose::StepQuestions { round, step });
        let question_results = context.sample_questions(&chain.model(), batch, images, group, purpose)?;
        let rows: Vec<QuestionRow> = read_rows(runner.store, &question_results)?;
        let questions: Vec<QuestionToAnswer> = rows.iter().map(QuestionToAnswer::from).collect();
        let votes = |model: &ModelHandle<'_>| {
            let settings = AnswerSettings {
                samples: pipeline.questioner.reward_samples,
                sampling: pipeline.sampling.reasoner,
                denominator: pipeline.questioner.reward_denominator,
                greedy: false,
                share_equal: pipeline.questioner.share_equal,
            };
            let purpose = SeedPurpose::StepAnswers { round, role: Role::Questioner, step };
            context.sample_answers(model, &questions, images, settings, purpose, &question_results)
        };
        let vote_results = match &resident {
            Some(model) => votes(model)?,
            None => votes(&context.handle(reasoner))?,
        };
        let inputs = RewardInputs::Questioner {
            questions: &question_results,
            votes: &vote_results,
            settings: &pipeline.questioner.reward(),
            denominator: pipeline.questioner.reward_denominator,
        };
        let rewards = finish_step(context, &chain, (Role::Questioner, step), &question_results, inputs)?;
        results.extend(question_results.into_iter().chain(vote_results).chain([rewards]));
    }
    finish_training(context, &chain, results)
}

/// Trains the Reasoner on a curriculum.
pub(super) fn train_reasoner(
    context: &EvolutionContext<'_>,
    round: u32,
    reasoner: &StoredModel,
    curriculum: &StageResult,
    images: &ImageSet<'_>,
) -> Result<TrainedRole> {
    let (pipeline, runner) = (context.pipeline, context.runner);
    let settings = &pipeline.update.reasoner;
    let curriculum = std::slice::from_ref(curriculum);
    let rows: Vec<CurriculumRow> = read_rows(runner.store, curriculum)?;
    let texts = rows.iter().map(|row| (row.question_id, row.problem.clone())).collect();
    let chain =
        TrainingChain::new(training_spec(context, round, Role::Reasoner, reasoner, images, texts)?, runner.store);
    let rows: Vec<&CurriculumRow> = rows.iter().collect();
    let order = context.seed(SeedPurpose::StepOrder { round, role: Role::Reasoner });
    let id = |row: &CurriculumRow| row.question_id.0;
    let steps = batches(&rows, settings.steps, settings.prompts_per_step as usize, order, id);
    let mut results = Vec::new();
    for (step, batch) in (0..).zip(&steps) {
        runner.progress.part(&format!("Reasoner, step {} of {}", step + 1, steps.len()));
        let questions: Vec<QuestionToAnswer> = batch.iter().map(|row| QuestionToAnswer::from(*row)).collect();
        let answer_settings = AnswerSettings {
            samples: pipeline.reasoner.group_size,
            sampling: pipeline.sampling.reasoner,
            denominator: pipeline.curriculum.label_denominator,
            greedy: false,
            // Each row has a group of its own.
            share_equal: false,
        };
        let purpose = SeedPurpose::StepAnswers { round, role: Role::Reasoner, step };
        let answer_results =
            context.sample_answers(&chain.model(), &questions, images, answer_settings, purpose, curriculum)?;
        let settings = &pipeline.reasoner.reward();
        let inputs = RewardInputs::Reasoner { answers: &answer_results, curriculum, settings };
        let rewards = finish_step(context, &chain, (Role::Reasoner, step), &answer_results, inputs)?;
        results.extend(answer_results.into_iter().chain([rewards]));
    }
    finish_training(context, &chain, results)
}

/// Returns the specification of a role's training, which starts from `base`. `texts` are the
/// questions that the Reasoner answers.
fn training_spec<'t>(
    context: &'t EvolutionContext<'_>,
    round: u32,
    role: Role,
    base: &'t StoredModel,
    images: &'t ImageSet<'t>,
    texts: HashMap<QuestionId, String>,
) -> Result<TrainingSpec<'t>> {
    let (settings, sampling) = role_settings(context, role);
    let model = &context.pipeline.model;
    let prompt = if role == Role::Questioner { &context.questioner_prompt } else { &context.reasoner_prompt };
    Ok(TrainingSpec {
        role,
        settings,
        compute: &context.compute,
        dtype: model.dtype.dtype(),
        device: &context.device,
        ops: model.ops,
        base,
        assets: context.assets()?,
        images,
        prompt,
        texts,
        temperature: sampling.temperature,
        max_tokens: sampling.max_tokens,
        seed: context.seed(SeedPurpose::Adapters { round, role }),
    })
}

fn role_settings<'c>(context: &'c EvolutionContext<'_>, role: Role) -> (&'c UpdateSettings, &'c Sampling) {
    let (update, sampling) = (&context.pipeline.update, &context.pipeline.sampling);
    match role {
        Role::Questioner => (&update.questioner, &sampling.questioner),
        Role::Reasoner => (&update.reasoner, &sampling.reasoner),
    }
}

/// Scores the samples of a step, updates the weights with them and prints the step's metrics.
/// Returns the rewards.
fn finish_step(
    context: &EvolutionContext<'_>,
    chain: &TrainingChain<'_>,
    (role, step): (Role, u32),
    samples: &[StageResult],
    inputs: RewardInputs<'_>,
) -> Result<StageResult> {
    let runner = context.runner;
    let (settings, sampling) = role_settings(context, role);
    let advantage = AdvantageSettings {
        aggregation: settings.aggregation,
        drop_zero_std: settings.drop_zero_std,
        overlong_tokens: settings.overlong_tokens,
        max_tokens: sampling.max_tokens,
    };
    let stage = Rewards { inputs, preset: &context.pipeline.preset, step, advantage };
    let rewards = runner.run(&stage, &[()])?.results.remove(0);
    if chain.step(samples.to_vec(), rewards.clone(), runner)? {
        print_step(context, chain, role, settings.steps)?;
    }
    Ok(rewards)
}

/// Prints the metrics of the step that was just run.
fn print_step(context: &EvolutionContext<'_>, chain: &TrainingChain<'_>, role: Role, steps: u32) -> Result<()> {
    let results = chain.results();
    let Some(last) = results.last() else { return Ok(()) };
    let metrics: Vec<MetricRow> = read_rows(context.runner.store, std::slice::from_ref(last))?;
    let Some(row) = metrics.first() else { return Ok(()) };
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    let role = if role == Role::Questioner { "Questioner" } else { "Reasoner" };
    context.runner.progress.say(&format!(
        "{role} step {} of {steps}: reward {}, entropy {}, gradient norm {}",
        row.step + 1,
        shown(row.reward_mean),
        shown(row.entropy),
        shown(row.grad_norm)
    ));
    Ok(())
}

fn finish_training(
    context: &EvolutionContext<'_>,
    chain: &TrainingChain<'_>,
    mut results: Vec<StageResult>,
) -> Result<TrainedRole> {
    let steps = chain.results();
    let metrics = read_rows(context.runner.store, &steps)?;
    results.extend(steps);
    Ok(TrainedRole { model: chain.finish()?, results, metrics })
}
