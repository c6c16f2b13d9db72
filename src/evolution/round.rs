//! A round: from the roles of the round before to the roles of this one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::EvolutionError;
use super::done::{Done, ref_name, show};
use super::gates::{Checked, QuestionFigures, Verdict, VoteFigures};
use super::ground::{Ground, Roles};
use super::keep_best;
use super::publish::Publish;
use super::report::{RoundReport, ScoreChange, TrainingFigures};
use super::slices::{ranked, seed_of, slice};
use super::stopped::Stopped;
use super::training::{self, Trained};
use crate::ids::ImageId;
use crate::stages::answers::{self, AnswerSettings, Answers, QuestionToAnswer};
use crate::stages::curriculum::{Curriculum, LabelledCurriculum};
use crate::stages::evaluation::{self, Benchmark, Evaluation, Item, Scores};
use crate::stages::image_set::ImageSet;
use crate::stages::model::{StoredModel, assemble};
use crate::stages::questions::{self, Questions};
use crate::stages::{StageError, read_rows};
use crate::store::{ActionKey, Advanced, StageResult};
use crate::tables::{MetricRow, QuestionRow, ScoreRow, VoteRow};

/// The roles that a round starts from: those of the last round before it that is current.
fn roles_before(ground: &Ground<'_>, before: &[Done]) -> Result<Roles, EvolutionError> {
    let Some(last) = before.iter().rfind(|done| done.report.is_current()) else {
        return Ok(Roles { questioner: ground.base.clone(), reasoner: ground.base.clone() });
    };
    let of = |part: &str| -> Result<StoredModel, EvolutionError> {
        let name = ref_name(last.report.round, part);
        let head = ground.runner.store.head(&ground.pipeline.evolution, &name)?;
        let result = head.map(|head| ground.runner.store.usable_result(head.result)).transpose()?.flatten();
        let lost =
            || StageError::Conflict(format!("{}/{name} is lost; run `visplay verify`", ground.pipeline.evolution));
        Ok(StoredModel::from_result(&result.ok_or_else(lost)?)?)
    };
    Ok(Roles { questioner: of("questioner")?, reasoner: of("reasoner")? })
}

/// A round under way: what it has made so far.
struct Under<'g, 'a> {
    ground: &'g Ground<'a>,
    round: u32,
    /// What it must come out as, where it was done before.
    expected: Option<ActionKey>,
    results: Vec<StageResult>,
    gates: Vec<Checked>,
}

/// What a Reasoner is to learn in a round, and where it came from.
struct Lesson<'g> {
    questioner: StoredModel,
    questioner_steps: Vec<MetricRow>,
    questions: QuestionFigures,
    votes: VoteFigures,
    curriculum: StageResult,
    images: ImageSet<'g>,
    image_count: u64,
}

/// Runs a round. Where it was done before it must come out as `expected`.
///
/// # Errors
/// A stage fails, a gate stops the round, or somebody asked to stop; what is done is kept.
pub(super) fn run(
    ground: &Ground<'_>,
    round: u32,
    before: &[Done],
    expected: Option<ActionKey>,
) -> Result<Done, EvolutionError> {
    let roles = roles_before(ground, before)?;
    let mut under = Under { ground, round, expected, results: Vec::new(), gates: Vec::new() };
    let lesson = match ground.pipeline.round.labelled.as_str() {
        "" => under.evolved_lesson(&roles)?,
        file => under.labelled_lesson(&roles, Path::new(file))?,
    };
    let Lesson { questioner, questioner_steps, questions, votes, curriculum, images, image_count } = lesson;

    let Trained { model: reasoner, results, metrics: reasoner_steps } =
        training::reasoner(ground, round, &roles.reasoner, &curriculum, &images)?;
    under.results.extend(results);

    let kept = if ground.pipeline.round.keep_best {
        let (kept, results) = keep_best::judge(ground, &roles.reasoner, &reasoner)?;
        under.results.extend(results);
        Some(kept)
    } else {
        None
    };
    let scores_before = under.evaluate(&roles.reasoner)?;
    let scores_after = under.evaluate(&reasoner)?;
    let report = RoundReport {
        round,
        images: image_count,
        questioner: TrainingFigures::of(&questioner_steps),
        questions,
        votes,
        left_out: left_out(&curriculum),
        reasoner: TrainingFigures::of(&reasoner_steps),
        gates: under.gates.clone(),
        scores: ScoreChange::of(&scores_before, &scores_after),
        kept,
        questioner_model: questioner.id,
        reasoner_model: reasoner.id,
    };
    under.publish(report, &questioner, &reasoner, before.last())
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

impl<'g> Under<'g, '_> {
    /// The method's own lesson: the Questioner learns to ask, asks, and the Reasoner's votes are the labels.
    fn evolved_lesson(&mut self, roles: &Roles) -> Result<Lesson<'g>, EvolutionError> {
        let (ground, round) = (self.ground, self.round);
        let slice = ground.slice(round)?;
        if slice.is_empty() {
            let why = match ground.images.counts.rejects {
                0 => String::new(),
                n => format!(" ({n} files were left out, and the view `rejects` says why)"),
            };
            let problem =
                format!("there is no image in the images table{why}; name a folder with images with --images");
            return Err(EvolutionError::Nothing { round, problem, tables: None });
        }
        self.check_reach(slice.len() as u64)?;
        let images = ground.image_set(&slice);
        let Trained { model: questioner, results, metrics: questioner_steps } =
            training::questioner(ground, round, (&roles.questioner, &roles.reasoner), &slice, &images)?;
        self.results.extend(results);

        let asked = self.questions(&questioner, &slice, &images)?;
        let rows: Vec<QuestionRow> = read_rows(ground.runner.store, &asked)?;
        let questions = QuestionFigures::of(&rows);
        self.check(questions.check(&ground.pipeline.gates))?;

        let voted = self.votes(&roles.reasoner, &asked, &rows, &images)?;
        let curriculum = self.curriculum(&asked, &voted)?;
        let rows: Vec<VoteRow> = read_rows(ground.runner.store, &voted)?;
        let votes = VoteFigures::of(&rows, curriculum.counts.rows_out);
        self.check(votes.check(&ground.pipeline.gates))?;
        if curriculum.counts.rows_out == 0 && ground.pipeline.update.reasoner.steps > 0 {
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
        Ok(Lesson { questioner, questioner_steps, questions, votes, curriculum, images, image_count })
    }

    /// The labelled baseline's lesson: given questions with their right answers.
    fn labelled_lesson(&mut self, roles: &Roles, file: &Path) -> Result<Lesson<'g>, EvolutionError> {
        let (ground, round) = (self.ground, self.round);
        let Benchmark { items, images, .. } = Benchmark::read(file, usize::MAX)?;
        let all: Vec<&Item> = items.iter().collect();
        let order = seed_of(ground.pipeline.round.seed, &["labelled"]);
        let ranked = ranked(&all, order, |item: &Item| item.item_id.0);
        let taken: Vec<Item> =
            slice(&ranked, round, ground.pipeline.round.images as usize).into_iter().cloned().collect();
        let image_count = taken.iter().map(|item| item.image_id).collect::<BTreeSet<_>>().len() as u64;
        let kept = taken.len() as u64;
        let stage = LabelledCurriculum::new(ground.runner.store, taken)?;
        let curriculum = ground.runner.run(&stage, &[()])?.results.remove(0);
        self.results.push(curriculum.clone());
        Ok(Lesson {
            questioner: roles.questioner.clone(),
            questioner_steps: Vec::new(),
            questions: QuestionFigures::default(),
            votes: VoteFigures { kept, ..VoteFigures::default() },
            curriculum,
            images: ImageSet::new(ground.pipeline.model.image_memory, move || Ok(images.clone())),
            image_count,
        })
    }

    fn questions(
        &mut self,
        questioner: &StoredModel,
        slice: &[ImageId],
        images: &ImageSet<'_>,
    ) -> Result<Vec<StageResult>, StageError> {
        let (ground, pipeline) = (self.ground, self.ground.pipeline);
        let model = ground.handle(questioner);
        let sampler = ground.questioner(&model, images);
        let stage = Questions {
            sampler: &sampler,
            compute: &ground.compute,
            form: pipeline.questioner.question_form(),
            sampling: pipeline.sampling.questioner,
            samples: pipeline.round.questions_per_image,
            seed: ground.seed(self.round, &["questions"]),
        };
        let shards = questions::shards(ground.runner.store, slice, pipeline.round.shard_rows as usize)?;
        let results = ground.runner.run(&stage, &shards)?.results;
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
        let (ground, pipeline) = (self.ground, self.ground.pipeline);
        let model = ground.handle(reasoner);
        let sampler = ground.reasoner(&model, images);
        let upstream: Vec<ActionKey> = asked.iter().map(|result| result.action).collect();
        let stage = Answers {
            sampler: &sampler,
            compute: &ground.compute,
            settings: AnswerSettings {
                samples: pipeline.curriculum.label_samples,
                sampling: pipeline.sampling.reasoner,
                denominator: pipeline.curriculum.label_denominator,
                greedy: pipeline.curriculum.greedy_agrees,
                share_equal: pipeline.curriculum.share_equal,
            },
            seed: ground.seed(self.round, &["votes"]),
            upstream: &upstream,
        };
        let questions: Vec<QuestionToAnswer> = questions.iter().map(QuestionToAnswer::from).collect();
        let shards = answers::shards(ground.runner.store, &questions, pipeline.round.shard_rows as usize)?;
        let results = ground.runner.run(&stage, &shards)?.results;
        self.results.extend(results.clone());
        Ok(results)
    }

    fn curriculum(&mut self, asked: &[StageResult], voted: &[StageResult]) -> Result<StageResult, StageError> {
        let settings = &self.ground.pipeline.curriculum;
        let seed = self.ground.seed(self.round, &["curriculum"]);
        let stage = Curriculum { questions: asked, votes: voted, settings, seed };
        let result = self.ground.runner.run(&stage, &[()])?.results.remove(0);
        self.results.push(result.clone());
        Ok(result)
    }

    /// Scores of a Reasoner on every benchmark.
    fn evaluate(&mut self, reasoner: &StoredModel) -> Result<Vec<ScoreRow>, StageError> {
        let (ground, pipeline) = (self.ground, self.ground.pipeline);
        let settings = &pipeline.evaluation;
        let limit = if settings.items == 0 { usize::MAX } else { settings.items as usize };
        let mut scores = Vec::new();
        for file in &settings.benchmarks {
            let benchmark = Benchmark::read(Path::new(file), limit)?;
            let files = benchmark.images.clone();
            let images = ImageSet::new(pipeline.model.image_memory, move || Ok(files.clone()));
            let model = ground.handle(reasoner);
            let sampler = ground.reasoner(&model, &images);
            let stage = Evaluation {
                sampler: &sampler,
                compute: &ground.compute,
                benchmark: &benchmark.name,
                protocols: settings.protocols,
                // Every round's Reasoner draws the same numbers, so that what differs is the Reasoner.
                seed: ground.seed(0, &["evaluation"]),
            };
            let rows = pipeline.round.shard_rows as usize;
            let shards = evaluation::shards(ground.runner.store, &benchmark.items, rows)?;
            let predictions = ground.runner.run(&stage, &shards)?.results;
            let stage = Scores { predictions: &predictions, benchmark: &benchmark.name, model: reasoner.id };
            let result = ground.runner.run(&stage, &[()])?.results.remove(0);
            scores.extend(read_rows::<ScoreRow>(ground.runner.store, std::slice::from_ref(&result))?);
            self.results.extend(predictions);
            self.results.push(result);
        }
        Ok(scores)
    }

    /// Ends a round that cannot pass, before anything is trained: where all that can be asked is less than what must be kept.
    fn check_reach(&self, images: u64) -> Result<(), EvolutionError> {
        let pipeline = self.ground.pipeline;
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
    fn check(&mut self, checked: Vec<Checked>) -> Result<(), EvolutionError> {
        for gate in &checked {
            if gate.verdict == Verdict::Warned {
                self.ground.runner.progress.say(&format!("warning: {gate}"));
            }
        }
        let stopped = checked.iter().find(|gate| gate.verdict == Verdict::Stopped).cloned();
        self.gates.extend(checked);
        let Some(gate) = stopped else { return Ok(()) };
        let tables = self.keep_stopped()?;
        Err(EvolutionError::Gate { round: self.round, gate: Box::new(gate), gates: self.gates.clone(), tables })
    }

    /// Names what there is of the round, which ends here; gives the folder of its tables.
    fn keep_stopped(&self) -> Result<Option<PathBuf>, EvolutionError> {
        let stopped =
            StoppedRoundStage { ground: self.ground, round: self.round, results: &self.results, gates: &self.gates };
        match stopped.keep() {
            Err(EvolutionError::Stage(StageError::Interrupted)) => Err(StageError::Interrupted.into()),
            // That it could not be kept must not hide why the round stopped.
            Err(e) => {
                self.ground.runner.progress.say(&format!("what the stopped round made is not named: {e}"));
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
        before: Option<&Done>,
    ) -> Result<Done, EvolutionError> {
        let (ground, round) = (self.ground, self.round);
        let runner = ground.runner;
        let made_by: Vec<ActionKey> = self.results.iter().map(|result| result.action).collect();
        let questioner = assemble(questioner, made_by.clone(), runner)?;
        let reasoner = assemble(reasoner, made_by, runner)?;
        let stage = Publish {
            ground,
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
        let evolution = &ground.pipeline.evolution;
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
            if let Advanced::Overtaken(other) = runner.store.advance(evolution, &name, head.as_ref(), named.action)? {
                let problem = format!("another process, with other settings, was quicker and named {other}");
                return Err(EvolutionError::Changed { problem });
            }
        }
        show(runner.store, evolution, round, &result)?;
        Ok(Done { report, result, found: false })
    }
}
