//! A round: from the roles of the round before to the roles of this one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::json;

use super::EvolutionError;
use super::found::{Broken, Found, find};
use super::gates::{Checked, QuestionFigures, Verdict, VoteFigures};
use super::ground::{Footing, Ground, Roles};
use super::keep_best;
use super::pipeline::Pipeline;
use super::report::{RoundReport, ScoreChange, TrainingFigures};
use super::settings::{changes, settings_of};
use super::slices::{ranked, seed_of, slice};
use super::training::{self, Trained};
use crate::ids::ImageId;
use crate::stages::answers::{self, AnswerSettings, Answers, Asked};
use crate::stages::curriculum::{Curriculum, Labelled};
use crate::stages::evaluation::{self, Benchmark, Evaluation, Item, Scores};
use crate::stages::image_set::ImageSet;
use crate::stages::model::{StoredModel, assemble};
use crate::stages::questions::{self, Questions};
use crate::stages::{Made, Runner, Stage, StageError, read_rows};
use crate::store::{Action, ActionKey, Advanced, Counts, Input, ObjectKind, Output, StageResult, Store};
use crate::tables::{
    AnswerRow, CurriculumRow, MetricRow, PredictionRow, QuestionRow, RejectRow, RewardRow, ScoreRow, TableRow, VoteRow,
};

/// The part that the report plays in a round's result.
const REPORT: &str = "report";
/// The parts that the texts of the prompts play in it.
pub(super) const PROMPTS: [&str; 2] = ["prompt.questioner", "prompt.reasoner"];
/// The parameter of a round's action that holds its settings.
pub(super) const SETTINGS: &str = "pipeline";
/// The stage that ends a round.
pub(super) const ROUND: &str = "evolution.round";
const VERSION: u32 = 2;

/// A round that is done.
#[derive(Debug, Clone)]
pub struct Done {
    /// What came of it.
    pub report: RoundReport,
    /// Its result.
    pub result: StageResult,
    /// Whether it was done before.
    pub found: bool,
}

/// What a stage of a round cost, all its shards together.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PhaseTime {
    /// The stage.
    pub stage: String,
    /// Results.
    pub results: u64,
    /// Milliseconds that making them took, on whatever machine made each.
    pub ms: u64,
}

impl Done {
    /// What the round cost, by stage.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn times(&self, store: &Store) -> Result<Vec<PhaseTime>, EvolutionError> {
        let mut times = BTreeMap::<String, (u64, u64)>::new();
        for &key in &self.result.upstream {
            if let Some(result) = store.result(key)? {
                let time = times.entry(store.action(key)?.stage).or_default();
                *time = (time.0 + 1, time.1 + result.run.took_ms);
            }
        }
        Ok(times.into_iter().map(|(stage, (results, ms))| PhaseTime { stage, results, ms }).collect())
    }
}

/// The name of a round's ref, such as `round-0003/reasoner`.
pub fn ref_name(round: u32, part: &str) -> String {
    format!("round-{round:04}/{part}")
}

/// The first round that is not done.
///
/// # Errors
/// The store cannot be read.
pub fn next_round(store: &Store, evolution: &str) -> Result<u32, EvolutionError> {
    let mut round = 1;
    while store.head(evolution, &ref_name(round, "round"))?.is_some() {
        round += 1;
    }
    Ok(round)
}

/// A round that was done, by its ref and its own result alone: what went into it may be lost, or hidden from a replay.
///
/// # Errors
/// The store cannot be read.
pub fn done_round(store: &Store, evolution: &str, round: u32) -> Result<Option<Done>, EvolutionError> {
    let Some(head) = store.head(evolution, &ref_name(round, "round"))? else { return Ok(None) };
    let Some(result) = store.usable_result(head.result)? else { return Ok(None) };
    let report = read_report(store, &result)?;
    Ok(Some(Done { report, result, found: true }))
}

/// The report of a round's result.
///
/// # Errors
/// It is not there or not to be read.
pub fn read_report(store: &Store, result: &StageResult) -> Result<RoundReport, StageError> {
    let lost = |problem: String| StageError::Conflict(format!("the result of the round {}: {problem}", result.action));
    let output = result.outputs_of(REPORT).next().ok_or_else(|| lost("it has no report".into()))?;
    serde_json::from_slice(&store.read_object(output.object)?).map_err(|e| lost(e.to_string()))
}

/// Runs the rounds up to `round` that are not done yet, and gives what came of each, in order. `begun` hears of each round that
/// has to be run.
///
/// # Errors
/// A stage fails, a gate stops a round, or somebody asked to stop; what is done is kept.
pub fn evolve_round(
    pipeline: &Pipeline,
    runner: &Runner<'_>,
    round: u32,
    mut begun: impl FnMut(u32),
) -> Result<Vec<Done>, EvolutionError> {
    let mut done = Vec::new();
    let mut ground = None;
    for number in 1..=round {
        let broken = match find(runner.store, &pipeline.evolution, number)? {
            Found::Whole(found) => {
                say_differences(pipeline, runner, number, &found)?;
                show(runner.store, &pipeline.evolution, number, &found.result)?;
                done.push(*found);
                continue;
            }
            Found::Broken(broken) => Some(broken),
            Found::Nothing => None,
        };
        begun(number);
        if let Some(broken) = broken {
            let round = mend(pipeline, runner, number, *broken, &done)?;
            done.push(round);
            continue;
        }
        if ground.is_none() {
            ground = Some(Ground::new(pipeline, runner, None)?);
        }
        if let Some(ground) = &ground {
            let round = run(ground, number, &done, None)?;
            done.push(round);
        }
    }
    Ok(done)
}

/// Makes what is lost of a round again. It must come out as it was: what later rounds and people built on is not replaced in silence.
fn mend(
    pipeline: &Pipeline,
    runner: &Runner<'_>,
    round: u32,
    broken: Broken,
    before: &[Done],
) -> Result<Done, EvolutionError> {
    let changed = broken.settings.as_ref().map(|then| changes(then, &settings_of(pipeline))).unwrap_or_default();
    let keys: Vec<String> = changed.into_iter().map(|change| change.key).collect();
    if !keys.is_empty() {
        let problem = format!(
            "parts of round {round} are lost, and it was made with another {}; with the pipeline file as it was then, the same \
             command makes them again; another --evolution starts anew",
            keys.join(", ")
        );
        return Err(EvolutionError::Changed { problem });
    }
    runner.progress.say(&format!("parts of round {round} are lost; making them again"));
    let ground = Ground::new(pipeline, runner, broken.images)?;
    run(&ground, round, before, Some(broken.action))
}

/// Says so when a round was made with other settings than those of now: it stands as it was made.
fn say_differences(pipeline: &Pipeline, runner: &Runner<'_>, round: u32, found: &Done) -> Result<(), StageError> {
    let action = runner.store.action(found.result.action)?;
    let then = action.parameters.get(SETTINGS);
    let found = then.map(|then| changes(then, &settings_of(pipeline))).unwrap_or_default();
    let keys: Vec<String> = found.into_iter().map(|change| change.key).collect();
    if !keys.is_empty() {
        let message = format!("round {round} was made with another {}; it stays as it is", keys.join(", "));
        runner.progress.say(&format!("{message}, and another --evolution starts anew"));
    }
    Ok(())
}

/// The roles that a round starts from: those of the last round before it that is current.
fn roles_before(ground: &Ground<'_>, before: &[Done]) -> Result<Roles, EvolutionError> {
    let is_current = |done: &&Done| done.report.kept.is_none_or(|kept| kept.current);
    let Some(last) = before.iter().rfind(is_current) else {
        return Ok(Roles { questioner: ground.base.clone(), reasoner: ground.base.clone() });
    };
    let of = |part: &str| -> Result<StoredModel, EvolutionError> {
        let name = ref_name(last.report.round, part);
        let head = ground.runner.store.head(&ground.pipeline.evolution, &name)?;
        let result = head.map(|head| ground.runner.store.usable_result(head.result)).transpose()?.flatten();
        let lost =
            || StageError::Conflict(format!("{}/{name} is lost; run `visplay verify`", ground.pipeline.evolution));
        Ok(StoredModel::of(&result.ok_or_else(lost)?)?)
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

fn run(ground: &Ground<'_>, round: u32, before: &[Done], expected: Option<ActionKey>) -> Result<Done, EvolutionError> {
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
            return Err(EvolutionError::Nothing { round, problem });
        }
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
            return Err(EvolutionError::Nothing { round, problem });
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
        let stage = Labelled::new(ground.runner.store, taken)?;
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
        let drawer = ground.questioner(&model, images);
        let stage = Questions {
            drawer: &drawer,
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
        let drawer = ground.reasoner(&model, images);
        let upstream: Vec<ActionKey> = asked.iter().map(|result| result.action).collect();
        let stage = Answers {
            drawer: &drawer,
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
        let questions: Vec<Asked> = questions.iter().map(Asked::from).collect();
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
            let drawer = ground.reasoner(&model, &images);
            let stage = Evaluation {
                drawer: &drawer,
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

    /// Says what gates warn of, and ends the round at one that stops it.
    fn check(&mut self, checked: Vec<Checked>) -> Result<(), EvolutionError> {
        for gate in &checked {
            if gate.verdict == Verdict::Warned {
                self.ground.runner.progress.say(&format!("warning: {gate}"));
            }
        }
        let stopped = checked.iter().find(|gate| gate.verdict == Verdict::Stopped).cloned();
        self.gates.extend(checked);
        match stopped {
            Some(gate) => Err(EvolutionError::Gate { round: self.round, gate }),
            None => Ok(()),
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
        let stage = Publish { under: &self, report: &report, models: [&questioner, &reasoner], before };
        let result = runner.run(&stage, &[()])?.results.remove(0);
        if self.expected.is_some_and(|expected| expected != result.action) {
            let problem = format!(
                "parts of round {round} are lost and cannot be made again as they were, because the base model, the prompts, the \
                 images, the benchmarks or this program are not what they were; another --evolution starts anew"
            );
            return Err(EvolutionError::Changed { problem });
        }
        let evolution = &ground.pipeline.evolution;
        for (part, named) in [("questioner", &questioner), ("reasoner", &reasoner), ("round", &result)] {
            let name = ref_name(round, part);
            let head = runner.store.head(evolution, &name)?;
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

/// Lays out the tables of a round for people, below `views/<evolution>/`.
///
/// # Errors
/// The store cannot be written to.
pub(super) fn show(store: &Store, evolution: &str, round: u32, result: &StageResult) -> Result<(), StageError> {
    for table in TABLES {
        let objects: Vec<_> = result.outputs_of(table).map(|output| output.object).collect();
        store.show_as(&format!("{evolution}/round={round}/{table}"), &objects)?;
    }
    Ok(())
}

/// Goes through a round again, on what is given. Whatever has its result is found; what has none is made.
///
/// # Errors
/// Those of [`evolve_round`].
pub(super) fn run_again(
    pipeline: &Pipeline,
    runner: &Runner<'_>,
    round: u32,
    footing: Footing,
) -> Result<Done, EvolutionError> {
    let mut before = Vec::new();
    for number in 1..round {
        before.extend(done_round(runner.store, &pipeline.evolution, number)?);
    }
    run(&Ground::on(pipeline, runner, footing)?, round, &before, None)
}

/// The tables that a round shows.
const TABLES: [&str; 9] = [
    QuestionRow::TABLE,
    AnswerRow::TABLE,
    VoteRow::TABLE,
    CurriculumRow::TABLE,
    RewardRow::TABLE,
    MetricRow::TABLE,
    PredictionRow::TABLE,
    ScoreRow::TABLE,
    RejectRow::TABLE,
];

/// The last stage of a round: all of its tables and its report under one result.
struct Publish<'p, 'g, 'a> {
    under: &'p Under<'g, 'a>,
    report: &'p RoundReport,
    models: [&'p StageResult; 2],
    before: Option<&'p Done>,
}

impl Publish<'_, '_, '_> {
    fn prompts(&self) -> [&crate::stages::role_prompt::RolePrompt; 2] {
        [&self.under.ground.questioner_prompt, &self.under.ground.reasoner_prompt]
    }

    fn outputs(&self) -> Vec<Output> {
        let mut seen = std::collections::BTreeSet::new();
        let outputs = self.under.results.iter().flat_map(|result| &result.outputs);
        let tables = outputs.filter(|output| TABLES.contains(&output.role.as_str()));
        tables.filter(|output| seen.insert(output.object)).cloned().collect()
    }
}

impl Stage for Publish<'_, '_, '_> {
    type Shard = ();

    fn phase(&self) -> &'static str {
        "publishing the round"
    }

    fn action(&self, _shard: &()) -> Action {
        let pipeline = self.under.ground.pipeline;
        let outputs = self.outputs().into_iter().chain(self.models.iter().flat_map(|model| model.outputs.clone()));
        Action {
            stage: ROUND.into(),
            stage_version: VERSION,
            parameters: BTreeMap::from([
                ("before".into(), json!(self.before.map(|before| before.result.action))),
                // Their thresholds are in the report.
                ("gates".into(), json!(self.report.gates)),
                (SETTINGS.into(), settings_of(pipeline)),
                ("prompts".into(), json!(self.prompts().map(|prompt| prompt.id))),
            ]),
            seed: pipeline.round.seed,
            inputs: outputs.map(|output| Input { role: output.role, object: output.object }).collect(),
            model: Some(self.under.ground.base.id.0),
            shard: BTreeMap::from([("round".into(), json!(self.under.round))]),
            schemas: BTreeMap::new(),
            writer_profile: 0,
        }
    }

    fn units(&self, _shard: &()) -> u64 {
        1
    }

    fn make(&self, _shard: &(), runner: &Runner<'_>) -> Result<Made, StageError> {
        let report = crate::canonical::to_canonical(self.report).map_err(crate::store::StoreError::from)?;
        let object = runner.store.put_object(&report, ObjectKind::Json)?;
        let mut outputs = vec![Output { role: REPORT.to_owned(), object, rows: 0, bytes: report.len() as u64 }];
        for (role, prompt) in PROMPTS.iter().zip(self.prompts()) {
            let text = crate::canonical::to_canonical(&prompt.text).map_err(crate::store::StoreError::from)?;
            let object = runner.store.put_object(&text, ObjectKind::Json)?;
            outputs.push(Output { role: (*role).to_owned(), object, rows: 0, bytes: text.len() as u64 });
        }
        outputs.extend(self.outputs());
        let rows = self.report.questions.asked;
        let mut upstream: Vec<ActionKey> = self.under.results.iter().map(|result| result.action).collect();
        upstream.extend(self.models.iter().map(|model| model.action));
        upstream.extend(self.before.map(|before| before.result.action));
        upstream.extend([self.under.ground.base_result.action, self.under.ground.images.action]);
        runner.progress.advance(1);
        Ok(Made { outputs, counts: Counts { rows_in: rows, rows_out: rows, rejects: 0 }, upstream, ..Made::default() })
    }
}
