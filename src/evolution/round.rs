//! A round: takes the models of both roles from an earlier round, trains them, and publishes them
//! with all tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::context::{EvolutionContext, Roles};
use super::finished::{FinishedRound, ref_name, write_round_view};
use super::gates::{GateResult, GateVerdict, QuestionStatistics, VoteStatistics};
use super::keep_best;
use super::publish::PublishRoundStage;
use super::report::{RoundReport, ScoreChange, TrainingSummary};
use super::seeds::SeedPurpose;
use super::slices::{rank_by_seed, slice};
use super::stopped_round::StoppedRoundStage;
use super::training::{self, TrainedRole};
use super::{EvolutionError, Result};
use crate::stages::answers::{AnswerSettings, QuestionToAnswer};
use crate::stages::curriculum::{Curriculum, LabelledCurriculum};
use crate::stages::evaluation::{Benchmark, BenchmarkColumns, Evaluation, Item, Scores};
use crate::stages::image_set::ImageSet;
use crate::stages::model::{StoredModel, assemble};
use crate::stages::{ListedRows, StageError, read_rows};
use crate::store::{ActionKey, RefUpdate, StageResult, WorkerRole};
use crate::tables::{MetricRow, QuestionRow, ScoreRow, VoteRow};

/// Returns the models that a round starts from: those of the last current round, or the base model.
pub(super) fn roles_before(context: &EvolutionContext<'_>, before: &[FinishedRound]) -> Result<Roles> {
    let Some(last) = before.iter().rfind(|done| done.report.is_current()) else {
        return Ok(Roles { questioner: context.base.clone(), reasoner: context.base.clone() });
    };
    let model_of = |part: &str| -> Result<StoredModel> {
        let name = ref_name(last.report.round, part);
        let head = context.runner.store.head(&context.pipeline.evolution, &name)?;
        let result = head.map(|head| context.runner.store.result_with_outputs(head.result)).transpose()?.flatten();
        let lost = || StageError::Lost(format!("the result of {}/{name}", context.pipeline.evolution));
        Ok(StoredModel::from_result(&result.ok_or_else(lost)?)?)
    };
    Ok(Roles { questioner: model_of("questioner")?, reasoner: model_of("reasoner")? })
}

/// A round in progress, with its results so far.
struct RoundRun<'g, 'a> {
    context: &'g EvolutionContext<'a>,
    round: u32,
    /// The action that it must end with, where a damaged round is rebuilt.
    expected: Option<ActionKey>,
    results: Vec<StageResult>,
    gates: Vec<GateResult>,
}

/// The curriculum that a round's Reasoner is trained on, with the statistics of the stages that
/// produced it.
struct ReasonerTrainingSet<'g> {
    questioner: StoredModel,
    questioner_steps: Vec<MetricRow>,
    questions: QuestionStatistics,
    votes: VoteStatistics,
    curriculum: StageResult,
    images: ImageSet<'g>,
    image_count: u64,
}

/// Runs a round. With `expected` it must end with this action, as it did before.
///
/// # Errors
/// A stage fails, a gate stops the round, or the run is interrupted; finished work is kept.
pub(super) fn run(
    context: &EvolutionContext<'_>,
    round: u32,
    before: &[FinishedRound],
    expected: Option<ActionKey>,
) -> Result<FinishedRound> {
    let roles = roles_before(context, before)?;
    let mut run = RoundRun { context, round, expected, results: Vec::new(), gates: Vec::new() };
    let is_labelled = context.pipeline.round.is_labelled();
    let ReasonerTrainingSet { questioner, questioner_steps, questions, votes, curriculum, images, image_count } =
        if is_labelled { run.labelled_training_set(&roles)? } else { run.self_labelled_training_set(&roles)? };

    if context.runner.role == WorkerRole::Judge {
        // While others train the Reasoner, a judge can measure the one before. The results are
        // looked up again below, in the order that every process lists them in.
        let results = run.results.len();
        run.evaluate(&roles.reasoner)?;
        run.results.truncate(results);
    }
    let TrainedRole { model: reasoner, results, metrics: reasoner_steps } =
        training::train_reasoner(context, round, &roles.reasoner, &curriculum, &images)?;
    run.results.extend(results);

    context.runner.progress.part("evaluation");
    let keep_best = if context.pipeline.round.keep_best {
        let (score, results) = keep_best::score_round(context, &roles.reasoner, &reasoner)?;
        run.results.extend(results);
        Some(score)
    } else {
        None
    };
    let scores_before = run.evaluate(&roles.reasoner)?;
    let scores_after = run.evaluate(&reasoner)?;
    let report = RoundReport {
        round,
        images: image_count,
        questioner: TrainingSummary::from_rows(&questioner_steps),
        questions,
        votes,
        left_out: count_rejections(&curriculum),
        reasoner: TrainingSummary::from_rows(&reasoner_steps),
        gates: run.gates.clone(),
        scores: ScoreChange::pair(&scores_before, &scores_after),
        keep_best,
        questioner_model: questioner.id,
        reasoner_model: reasoner.id,
    };
    run.publish(report, &questioner, &reasoner, before.last())
}

/// Returns the number of left-out questions by reason, from counters of the curriculum's result.
fn count_rejections(curriculum: &StageResult) -> BTreeMap<String, u64> {
    let counters = curriculum.statistics.iter();
    counters.filter_map(|(name, n)| Some((name.strip_prefix("rejected.")?.to_owned(), *n))).collect()
}

fn list_counts(counts: &BTreeMap<String, u64>) -> String {
    let parts: Vec<String> = counts.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    if parts.is_empty() { "no reasons".to_owned() } else { parts.join(", ") }
}

impl<'g> RoundRun<'g, '_> {
    /// Builds the training set by the method itself: trains the Questioner, samples its questions,
    /// and turns the votes of the Reasoner's answers into pseudo-labels.
    fn self_labelled_training_set(&mut self, roles: &Roles) -> Result<ReasonerTrainingSet<'g>> {
        let (context, round) = (self.context, self.round);
        let slice = context.slice(round)?;
        if slice.is_empty() {
            let rejects = match context.images.counts.rejects {
                0 => String::new(),
                n => format!(" ({n} files were left out; the view `rejects` lists the reasons)"),
            };
            let problem = format!("the images table is empty{rejects}; pass a folder of images with --images");
            return Err(EvolutionError::MissingData { round, problem, tables: None });
        }
        self.check_min_rows_reachable(slice.len() as u64)?;
        let images = context.image_set(&slice);
        let TrainedRole { model: questioner, results, metrics: questioner_steps } =
            training::train_questioner(context, round, (&roles.questioner, &roles.reasoner), &slice, &images)?;
        self.results.extend(results);

        context.runner.progress.part("the round's questions");
        let (model, samples) = (context.handle(&questioner), context.pipeline.round.questions_per_image);
        let purpose = SeedPurpose::Questions { round };
        let question_results = context.sample_questions(&model, &slice, &images, samples, purpose)?;
        // The Reasoner's weights need the memory.
        drop(model);
        self.results.extend(question_results.clone());
        let rows: Vec<QuestionRow> = read_rows(context.runner.store, &question_results)?;
        let questions = QuestionStatistics::from_rows(&rows);
        self.check_gates(questions.check(&context.pipeline.gates))?;

        context.runner.progress.part("votes on the round's questions");
        let vote_results = self.sample_votes(&roles.reasoner, &question_results, &rows, &images)?;
        let stage = Curriculum {
            questions: &question_results,
            votes: &vote_results,
            settings: &context.pipeline.curriculum,
            seed: context.seed(SeedPurpose::Curriculum { round }),
        };
        let curriculum = context.runner.run(&stage, &[()])?.results.remove(0);
        self.results.push(curriculum.clone());
        let rows: Vec<VoteRow> = read_rows(context.runner.store, &vote_results)?;
        let votes = VoteStatistics::from_rows(&rows, curriculum.counts.rows_out);
        self.check_gates(votes.check(&context.pipeline.gates))?;
        if curriculum.counts.rows_out == 0 && context.pipeline.update.reasoner.steps > 0 {
            let problem = format!(
                "the curriculum is empty: of {} questions {} were valid, {} were voted on and none was kept ({})",
                questions.asked,
                questions.valid,
                votes.voted,
                list_counts(&count_rejections(&curriculum)),
            );
            return Err(EvolutionError::MissingData { round, problem, tables: self.publish_stopped()? });
        }
        let image_count = slice.len() as u64;
        Ok(ReasonerTrainingSet { questioner, questioner_steps, questions, votes, curriculum, images, image_count })
    }

    /// Builds the training set of the labelled baseline: questions with given answers.
    fn labelled_training_set(&mut self, roles: &Roles) -> Result<ReasonerTrainingSet<'g>> {
        let (context, round) = (self.context, self.round);
        let settings = &context.pipeline.round;
        context.pipeline.check_path("round.labelled", &settings.labelled)?;
        let benchmark = Benchmark::read(&settings.labelled, usize::MAX, &settings.labelled_columns)?;
        self.report_rejected(&benchmark);
        let all: Vec<&Item> = benchmark.items().collect();
        let order = context.seed(SeedPurpose::LabelledOrder);
        let ranked = rank_by_seed(&all, order, |item: &Item| item.item_id.0);
        let selected: Vec<Item> = slice(&ranked, round, settings.images as usize).into_iter().cloned().collect();
        let image_count = selected.iter().map(|item| item.image_id).collect::<BTreeSet<_>>().len() as u64;
        let kept = selected.len() as u64;
        let stage = LabelledCurriculum::new(context.runner.store, selected, benchmark.rejected().cloned().collect())?;
        let images = benchmark.images;
        let curriculum = context.runner.run(&stage, &[()])?.results.remove(0);
        self.results.push(curriculum.clone());
        Ok(ReasonerTrainingSet {
            questioner: roles.questioner.clone(),
            questioner_steps: Vec::new(),
            questions: QuestionStatistics::default(),
            votes: VoteStatistics { kept, ..VoteStatistics::default() },
            curriculum,
            images: ImageSet::new(context.pipeline.model.image_memory, move || Ok(images.clone())),
            image_count,
        })
    }

    /// Samples the answers that vote on the round's questions.
    fn sample_votes(
        &mut self,
        reasoner: &StoredModel,
        question_results: &[StageResult],
        questions: &[QuestionRow],
        images: &ImageSet<'_>,
    ) -> Result<Vec<StageResult>, StageError> {
        let (context, pipeline) = (self.context, self.context.pipeline);
        let settings = AnswerSettings {
            samples: pipeline.curriculum.label_samples,
            sampling: pipeline.sampling.reasoner,
            denominator: pipeline.curriculum.label_denominator,
            greedy: pipeline.curriculum.greedy_agrees,
            share_equal: pipeline.curriculum.share_equal,
        };
        let questions: Vec<QuestionToAnswer> = questions.iter().map(QuestionToAnswer::from).collect();
        let purpose = SeedPurpose::Votes { round: self.round };
        let model = context.handle(reasoner);
        let results = context.sample_answers(&model, &questions, images, settings, purpose, question_results)?;
        self.results.extend(results.clone());
        Ok(results)
    }

    /// Reports the rows of a file that are not used; a table of rejects lists them all.
    fn report_rejected(&self, benchmark: &Benchmark) {
        if let Some(first) = benchmark.rejected().next() {
            let (n, all, name) = (benchmark.rejected().count(), benchmark.rows.len(), &benchmark.name);
            let why = format!("row {}: {}: {}", first.row, first.rejection.reason, first.rejection.detail);
            self.context.runner.progress.say(&format!("{n} of {all} rows of {name} cannot be used; the first: {why}"));
        }
    }

    /// Scores a Reasoner on every benchmark.
    fn evaluate(&mut self, reasoner: &StoredModel) -> Result<Vec<ScoreRow>> {
        let (context, pipeline) = (self.context, self.context.pipeline);
        let settings = &pipeline.evaluation;
        let limit = if settings.items == 0 { usize::MAX } else { settings.items as usize };
        let mut scores = Vec::new();
        for file in &settings.benchmarks {
            pipeline.check_path("evaluation.benchmarks", file)?;
            let benchmark = Benchmark::read(file, limit, &BenchmarkColumns::default())?;
            self.report_rejected(&benchmark);
            let files = benchmark.images.clone();
            let images = ImageSet::new(pipeline.model.image_memory, move || Ok(files.clone()));
            let model = context.handle(reasoner);
            let sampler = context.reasoner_sampler(&model, &images);
            let stage = Evaluation {
                sampler: &sampler,
                benchmark: &benchmark.name,
                protocols: settings.protocols,
                seed: context.seed(SeedPurpose::Evaluation),
            };
            let size = context.shard_rows(benchmark.rows.len(), settings.protocols.max_tokens_per_item());
            let shards = ListedRows::split(context.runner.store, &benchmark.rows, size)?;
            let predictions = context.runner.run(&stage, &shards)?.results;
            let stage = Scores { predictions: &predictions, benchmark: &benchmark.name, model: reasoner.id };
            let result = context.runner.run(&stage, &[()])?.results.remove(0);
            scores.extend(read_rows::<ScoreRow>(context.runner.store, std::slice::from_ref(&result))?);
            self.results.extend(predictions);
            self.results.push(result);
        }
        Ok(scores)
    }

    /// Returns an error, before any training, if the round cannot pass its gates because it asks
    /// fewer questions than its curriculum must keep.
    fn check_min_rows_reachable(&self, images: u64) -> Result<()> {
        let pipeline = self.context.pipeline;
        let questions = u64::from(pipeline.round.questions_per_image);
        let max_rows = images * questions;
        let Some(stop) = pipeline.gates.kept_rows.stop.filter(|stop| (max_rows as f64) < *stop) else { return Ok(()) };
        let problem = format!(
            "{images} images with {questions} questions each give at most {max_rows} rows to train on, and gates.kept_rows stops a \
             round below {stop}; pass more images with --images, or lower that threshold"
        );
        Err(EvolutionError::GateUnreachable { round: self.round, problem })
    }

    /// Prints the warnings of gates, and ends the round if one of them stops it.
    fn check_gates(&mut self, checked: Vec<GateResult>) -> Result<()> {
        for gate in &checked {
            if gate.verdict == GateVerdict::Warned {
                self.context.runner.progress.say(&format!("warning: {gate}"));
            }
        }
        let stopped = checked.iter().find(|gate| gate.verdict == GateVerdict::Stopped).cloned();
        self.gates.extend(checked);
        let Some(gate) = stopped else { return Ok(()) };
        let tables = self.publish_stopped()?;
        Err(EvolutionError::Gate { round: self.round, gate: Box::new(gate), gates: self.gates.clone(), tables })
    }

    /// Publishes the partial results of a stopped round and returns the folder of its tables.
    fn publish_stopped(&self) -> Result<Option<PathBuf>> {
        let stopped =
            StoppedRoundStage { context: self.context, round: self.round, results: &self.results, gates: &self.gates };
        match stopped.publish() {
            Err(EvolutionError::Stage(e @ (StageError::Interrupted | StageError::Drained | StageError::Idle))) => {
                Err(e.into())
            }
            // A failure to publish must not hide why the round stopped.
            Err(e) => {
                let message = format!("the tables of the stopped round could not be published: {e}");
                self.context.runner.progress.say(&message);
                Ok(None)
            }
            kept => kept,
        }
    }

    /// Publishes the models and the round under their refs.
    fn publish(
        self,
        report: RoundReport,
        questioner: &StoredModel,
        reasoner: &StoredModel,
        before: Option<&FinishedRound>,
    ) -> Result<FinishedRound> {
        let (context, round) = (self.context, self.round);
        let runner = context.runner;
        let upstream: Vec<ActionKey> = self.results.iter().map(|result| result.action).collect();
        let questioner = assemble(questioner, upstream.clone(), runner)?;
        let reasoner = assemble(reasoner, upstream, runner)?;
        let stage = PublishRoundStage {
            context,
            round,
            results: &self.results,
            report: &report,
            models: [&questioner, &reasoner],
            before,
        };
        let result = runner.run(&stage, &[()])?.results.remove(0);
        if self.expected.is_some_and(|expected| expected != result.action) {
            let problem = format!(
                "parts of round {round} are missing, and recomputing them gives other results, because the base model, the \
                 prompts, the images, the benchmarks or visplay itself have changed; restore them, or start another --evolution"
            );
            return Err(EvolutionError::Changed { problem });
        }
        let evolution = &context.pipeline.evolution;
        // A finished round never changes: a round that another process has published in the
        // meantime, from other inputs, is not replaced.
        let published = runner.store.head(evolution, &ref_name(round, "round"))?;
        if published.as_ref().is_some_and(|published| published.result != result.action) {
            let problem = format!(
                "another process has finished round {round} with other images, models or settings, and its round is kept; rerun the \
                 command for the next round"
            );
            return Err(EvolutionError::Changed { problem });
        }
        for (part, named) in [("questioner", &questioner), ("reasoner", &reasoner), ("round", &result)] {
            let name = ref_name(round, part);
            let head = if part == "round" { published.clone() } else { runner.store.head(evolution, &name)? };
            if head.as_ref().is_some_and(|head| head.result == named.action) {
                continue;
            }
            if let RefUpdate::Conflict(other) = runner.store.advance(evolution, &name, head.as_ref(), named.action)? {
                let problem = format!("another process with other settings published {other} first; rerun the command");
                return Err(EvolutionError::Changed { problem });
            }
        }
        write_round_view(runner.store, evolution, round, &result)?;
        Ok(FinishedRound { report, result, already_finished: false })
    }
}
