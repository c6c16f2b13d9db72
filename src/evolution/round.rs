//! A round: from the roles of the round before to the roles of this one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::EvolutionError;
use super::context::{EvolutionContext, Roles};
use super::finished::{FinishedRound, ref_name, show};
use super::gates::{GateResult, GateVerdict, QuestionStatistics, VoteStatistics};
use super::keep_best;
use super::publish::PublishRoundStage;
use super::report::{RoundReport, ScoreChange, TrainingSummary};
use super::slices::{derive_seed, rank_by_seed, slice};
use super::stopped_round::StoppedRoundStage;
use super::training::{self, TrainedRole};
use crate::ids::ImageId;
use crate::stages::answers::{self, AnswerSettings, Answers, QuestionToAnswer};
use crate::stages::curriculum::{Curriculum, LabelledCurriculum};
use crate::stages::evaluation::{self, Benchmark, Evaluation, Item, Scores};
use crate::stages::image_set::ImageSet;
use crate::stages::model::{StoredModel, assemble};
use crate::stages::questions::{self, Questions};
use crate::stages::{StageError, read_rows};
use crate::store::{ActionKey, RefUpdate, StageResult};
use crate::tables::{MetricRow, QuestionRow, ScoreRow, VoteRow};

/// The roles that a round starts from: those of the last round before it that is current.
fn roles_before(context: &EvolutionContext<'_>, before: &[FinishedRound]) -> Result<Roles, EvolutionError> {
    let Some(last) = before.iter().rfind(|done| done.report.is_current()) else {
        return Ok(Roles { questioner: context.base.clone(), reasoner: context.base.clone() });
    };
    let of = |part: &str| -> Result<StoredModel, EvolutionError> {
        let name = ref_name(last.report.round, part);
        let head = context.runner.store.head(&context.pipeline.evolution, &name)?;
        let result = head.map(|head| context.runner.store.result_with_outputs(head.result)).transpose()?.flatten();
        let lost = || StageError::Lost(format!("the result of {}/{name}", context.pipeline.evolution));
        Ok(StoredModel::from_result(&result.ok_or_else(lost)?)?)
    };
    Ok(Roles { questioner: of("questioner")?, reasoner: of("reasoner")? })
}

/// A round under way: what it has made so far.
struct RoundRun<'g, 'a> {
    context: &'g EvolutionContext<'a>,
    round: u32,
    /// What it must come out as, where it was done before.
    expected: Option<ActionKey>,
    results: Vec<StageResult>,
    gates: Vec<GateResult>,
}

/// What a Reasoner is to learn in a round, and where it came from.
struct ReasonerTrainingSet<'g> {
    questioner: StoredModel,
    questioner_steps: Vec<MetricRow>,
    questions: QuestionStatistics,
    votes: VoteStatistics,
    curriculum: StageResult,
    images: ImageSet<'g>,
    image_count: u64,
}

/// Runs a round. Where it was done before it must come out as `expected`.
///
/// # Errors
/// A stage fails, a gate stops the round, or somebody asked to stop; what is done is kept.
pub(super) fn run(
    context: &EvolutionContext<'_>,
    round: u32,
    before: &[FinishedRound],
    expected: Option<ActionKey>,
) -> Result<FinishedRound, EvolutionError> {
    let roles = roles_before(context, before)?;
    let mut run = RoundRun { context, round, expected, results: Vec::new(), gates: Vec::new() };
    let training_set = if context.pipeline.round.is_labelled() {
        run.labelled_training_set(&roles)?
    } else {
        run.self_labelled_training_set(&roles)?
    };
    let ReasonerTrainingSet { questioner, questioner_steps, questions, votes, curriculum, images, image_count } =
        training_set;

    let TrainedRole { model: reasoner, results, metrics: reasoner_steps } =
        training::reasoner(context, round, &roles.reasoner, &curriculum, &images)?;
    run.results.extend(results);

    let kept = if context.pipeline.round.keep_best {
        let (kept, results) = keep_best::judge(context, &roles.reasoner, &reasoner)?;
        run.results.extend(results);
        Some(kept)
    } else {
        None
    };
    let scores_before = run.evaluate(&roles.reasoner)?;
    let scores_after = run.evaluate(&reasoner)?;
    let report = RoundReport {
        round,
        images: image_count,
        questioner: TrainingSummary::of(&questioner_steps),
        questions,
        votes,
        left_out: left_out(&curriculum),
        reasoner: TrainingSummary::of(&reasoner_steps),
        gates: run.gates.clone(),
        scores: ScoreChange::of(&scores_before, &scores_after),
        kept,
        questioner_model: questioner.id,
        reasoner_model: reasoner.id,
    };
    run.publish(report, &questioner, &reasoner, before.last())
}

/// Left-out questions by reason, from the curriculum's figures.
fn left_out(curriculum: &StageResult) -> BTreeMap<String, u64> {
    let figures = curriculum.figures.iter();
    figures.filter_map(|(name, n)| Some((name.strip_prefix("rejected.")?.to_owned(), *n))).collect()
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    let parts: Vec<String> = counts.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    if parts.is_empty() { "no reasons".to_owned() } else { parts.join(", ") }
}

impl<'g> RoundRun<'g, '_> {
    /// The method's own lesson: the Questioner learns to ask, asks, and the Reasoner's votes are the labels.
    fn self_labelled_training_set(&mut self, roles: &Roles) -> Result<ReasonerTrainingSet<'g>, EvolutionError> {
        let (context, round) = (self.context, self.round);
        let slice = context.slice(round)?;
        if slice.is_empty() {
            let why = match context.images.counts.rejects {
                0 => String::new(),
                n => format!(" ({n} files were left out, and the view `rejects` says why)"),
            };
            let problem =
                format!("there is no image in the images table{why}; name a folder with images with --images");
            return Err(EvolutionError::Nothing { round, problem, tables: None });
        }
        self.check_min_rows_reachable(slice.len() as u64)?;
        let images = context.image_set(&slice);
        let TrainedRole { model: questioner, results, metrics: questioner_steps } =
            training::questioner(context, round, (&roles.questioner, &roles.reasoner), &slice, &images)?;
        self.results.extend(results);

        let asked = self.questions(&questioner, &slice, &images)?;
        let rows: Vec<QuestionRow> = read_rows(context.runner.store, &asked)?;
        let questions = QuestionStatistics::of(&rows);
        self.check(questions.check(&context.pipeline.gates))?;

        let voted = self.votes(&roles.reasoner, &asked, &rows, &images)?;
        let curriculum = self.curriculum(&asked, &voted)?;
        let rows: Vec<VoteRow> = read_rows(context.runner.store, &voted)?;
        let votes = VoteStatistics::of(&rows, curriculum.counts.rows_out);
        self.check(votes.check(&context.pipeline.gates))?;
        if curriculum.counts.rows_out == 0 && context.pipeline.update.reasoner.steps > 0 {
            let problem = format!(
                "the curriculum is empty: of {} questions {} were valid, {} were voted on and none was kept ({})",
                questions.asked,
                questions.valid,
                votes.voted,
                listed(&left_out(&curriculum)),
            );
            return Err(EvolutionError::Nothing { round, problem, tables: self.keep_stopped()? });
        }
        let image_count = slice.len() as u64;
        Ok(ReasonerTrainingSet { questioner, questioner_steps, questions, votes, curriculum, images, image_count })
    }

    /// The labelled baseline's lesson: given questions with their right answers.
    fn labelled_training_set(&mut self, roles: &Roles) -> Result<ReasonerTrainingSet<'g>, EvolutionError> {
        let (context, round) = (self.context, self.round);
        let Benchmark { items, images, .. } = Benchmark::read(&context.pipeline.round.labelled, usize::MAX)?;
        let all: Vec<&Item> = items.iter().collect();
        let order = derive_seed(context.pipeline.round.seed, &["labelled"]);
        let ranked = rank_by_seed(&all, order, |item: &Item| item.item_id.0);
        let taken: Vec<Item> =
            slice(&ranked, round, context.pipeline.round.images as usize).into_iter().cloned().collect();
        let image_count = taken.iter().map(|item| item.image_id).collect::<BTreeSet<_>>().len() as u64;
        let kept = taken.len() as u64;
        let stage = LabelledCurriculum::new(context.runner.store, taken)?;
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

    fn questions(
        &mut self,
        questioner: &StoredModel,
        slice: &[ImageId],
        images: &ImageSet<'_>,
    ) -> Result<Vec<StageResult>, StageError> {
        let (context, pipeline) = (self.context, self.context.pipeline);
        let model = context.handle(questioner);
        let sampler = context.questioner(&model, images);
        let stage = Questions {
            sampler: &sampler,
            form: pipeline.questioner.question_form(),
            sampling: pipeline.sampling.questioner,
            samples: pipeline.round.questions_per_image,
            seed: context.seed(self.round, &["questions"]),
        };
        let shards = questions::shards(context.runner.store, slice, pipeline.round.shard_rows as usize)?;
        let results = context.runner.run(&stage, &shards)?.results;
        self.results.extend(results.clone());
        Ok(results)
    }

    fn votes(
        &mut self,
        reasoner: &StoredModel,
        asked: &[StageResult],
        questions: &[QuestionRow],
        images: &ImageSet<'_>,
    ) -> Result<Vec<StageResult>, StageError> {
        let (context, pipeline) = (self.context, self.context.pipeline);
        let model = context.handle(reasoner);
        let sampler = context.reasoner(&model, images);
        let upstream: Vec<ActionKey> = asked.iter().map(|result| result.action).collect();
        let stage = Answers {
            sampler: &sampler,
            settings: AnswerSettings {
                samples: pipeline.curriculum.label_samples,
                sampling: pipeline.sampling.reasoner,
                denominator: pipeline.curriculum.label_denominator,
                greedy: pipeline.curriculum.greedy_agrees,
                share_equal: pipeline.curriculum.share_equal,
            },
            seed: context.seed(self.round, &["votes"]),
            upstream: &upstream,
        };
        let questions: Vec<QuestionToAnswer> = questions.iter().map(QuestionToAnswer::from).collect();
        let shards = answers::shards(context.runner.store, &questions, pipeline.round.shard_rows as usize)?;
        let results = context.runner.run(&stage, &shards)?.results;
        self.results.extend(results.clone());
        Ok(results)
    }

    fn curriculum(&mut self, asked: &[StageResult], voted: &[StageResult]) -> Result<StageResult, StageError> {
        let settings = &self.context.pipeline.curriculum;
        let seed = self.context.seed(self.round, &["curriculum"]);
        let stage = Curriculum { questions: asked, votes: voted, settings, seed };
        let result = self.context.runner.run(&stage, &[()])?.results.remove(0);
        self.results.push(result.clone());
        Ok(result)
    }

    /// Scores of a Reasoner on every benchmark.
    fn evaluate(&mut self, reasoner: &StoredModel) -> Result<Vec<ScoreRow>, StageError> {
        let (context, pipeline) = (self.context, self.context.pipeline);
        let settings = &pipeline.evaluation;
        let limit = if settings.items == 0 { usize::MAX } else { settings.items as usize };
        let mut scores = Vec::new();
        for file in &settings.benchmarks {
            let benchmark = Benchmark::read(file, limit)?;
            let files = benchmark.images.clone();
            let images = ImageSet::new(pipeline.model.image_memory, move || Ok(files.clone()));
            let model = context.handle(reasoner);
            let sampler = context.reasoner(&model, &images);
            let stage = Evaluation {
                sampler: &sampler,
                benchmark: &benchmark.name,
                protocols: settings.protocols,
                // Every round's Reasoner draws the same numbers, so that what differs is the Reasoner.
                seed: context.seed(0, &["evaluation"]),
            };
            let rows = pipeline.round.shard_rows as usize;
            let shards = evaluation::shards(context.runner.store, &benchmark.items, rows)?;
            let predictions = context.runner.run(&stage, &shards)?.results;
            let stage = Scores { predictions: &predictions, benchmark: &benchmark.name, model: reasoner.id };
            let result = context.runner.run(&stage, &[()])?.results.remove(0);
            scores.extend(read_rows::<ScoreRow>(context.runner.store, std::slice::from_ref(&result))?);
            self.results.extend(predictions);
            self.results.push(result);
        }
        Ok(scores)
    }

    /// Ends a round that cannot pass, before anything is trained: where all that can be asked is less than what must be kept.
    fn check_min_rows_reachable(&self, images: u64) -> Result<(), EvolutionError> {
        let pipeline = self.context.pipeline;
        let questions = u64::from(pipeline.round.questions_per_image);
        let most = images * questions;
        let Some(stop) = pipeline.gates.kept_rows.stop.filter(|stop| (most as f64) < *stop) else { return Ok(()) };
        let problem = format!(
            "{images} images with {questions} questions each make at most {most} rows to learn from, and gates.kept_rows stops a round \
             below {stop}: name more images with --images, or lower that threshold"
        );
        Err(EvolutionError::GateUnreachable { round: self.round, problem })
    }

    /// Says what gates warn of, and ends the round at one that stops it.
    fn check(&mut self, checked: Vec<GateResult>) -> Result<(), EvolutionError> {
        for gate in &checked {
            if gate.verdict == GateVerdict::Warned {
                self.context.runner.progress.say(&format!("warning: {gate}"));
            }
        }
        let stopped = checked.iter().find(|gate| gate.verdict == GateVerdict::Stopped).cloned();
        self.gates.extend(checked);
        let Some(gate) = stopped else { return Ok(()) };
        let tables = self.keep_stopped()?;
        Err(EvolutionError::Gate { round: self.round, gate: Box::new(gate), gates: self.gates.clone(), tables })
    }

    /// Names what there is of the round, which ends here; gives the folder of its tables.
    fn keep_stopped(&self) -> Result<Option<PathBuf>, EvolutionError> {
        let stopped =
            StoppedRoundStage { context: self.context, round: self.round, results: &self.results, gates: &self.gates };
        match stopped.keep() {
            Err(EvolutionError::Stage(StageError::Interrupted)) => Err(StageError::Interrupted.into()),
            // That it could not be kept must not hide why the round stopped.
            Err(e) => {
                self.context.runner.progress.say(&format!("what the stopped round made is not named: {e}"));
                Ok(None)
            }
            kept => kept,
        }
    }

    /// Names the models and the round.
    fn publish(
        self,
        report: RoundReport,
        questioner: &StoredModel,
        reasoner: &StoredModel,
        before: Option<&FinishedRound>,
    ) -> Result<FinishedRound, EvolutionError> {
        let (context, round) = (self.context, self.round);
        let runner = context.runner;
        let made_by: Vec<ActionKey> = self.results.iter().map(|result| result.action).collect();
        let questioner = assemble(questioner, made_by.clone(), runner)?;
        let reasoner = assemble(reasoner, made_by, runner)?;
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
                "parts of round {round} are lost and cannot be made again as they were, because the base model, the prompts, the \
                 images, the benchmarks or this program are not what they were; another --evolution starts anew"
            );
            return Err(EvolutionError::Changed { problem });
        }
        let evolution = &context.pipeline.evolution;
        // A round stands as it was made: what another process named while this one ran, from other inputs, is not replaced.
        let standing = runner.store.head(evolution, &ref_name(round, "round"))?;
        if standing.as_ref().is_some_and(|standing| standing.result != result.action) {
            let problem = format!(
                "another process finished round {round} meanwhile, from other images, models or settings, and that one stands; run the \
                 command again for the next"
            );
            return Err(EvolutionError::Changed { problem });
        }
        for (part, named) in [("questioner", &questioner), ("reasoner", &reasoner), ("round", &result)] {
            let name = ref_name(round, part);
            let head = if part == "round" { standing.clone() } else { runner.store.head(evolution, &name)? };
            if head.as_ref().is_some_and(|head| head.result == named.action) {
                continue;
            }
            if let RefUpdate::Conflict(other) = runner.store.advance(evolution, &name, head.as_ref(), named.action)? {
                let problem = format!("another process, with other settings, was quicker and named {other}");
                return Err(EvolutionError::Changed { problem });
            }
        }
        show(runner.store, evolution, round, &result)?;
        Ok(FinishedRound { report, result, already_finished: false })
    }
}
