//! `visplay evolve-round`: runs a round, and the rounds before it that are missing.

mod dry_run;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::audit::TruthFile;
use super::ingest::check_sources;
use crate::batch_job::BatchJob;
use crate::cli::args::{DeviceArgs, NodeCacheArgs, PipelineArgs, StoreArgs, ThreadArgs};
use crate::cli::job::{Job, JobArgs};
use crate::cli::output::mistaken_files::say_mistaken_files;
use crate::cli::output::round_table;
use crate::cli::session::Session;
use crate::cli::{CommandError, Result, Ui, exit, format};
use crate::evolution::pipeline::Pipeline;
use crate::evolution::{
    Announcement, EvolutionError, FinishedRound, PlannedPart, boxed_shares, claim_evolution, curriculum_truth,
    evolve_round, next_round, plan,
};
use crate::stages::ingest::{IMAGES, IngestRequest, IngestSummary, ingest};
use crate::stages::{Progress, Runner, StageError, WorkerSpec};
use crate::store::{Claim, Process, Store, WorkerNote, WorkerRole};

/// Run rounds of the evolution up to round N.
///
/// A round trains the Questioner, generates questions about the round's images, samples the
/// Reasoner's answers and takes their majority votes, keeps the questions that are neither too easy
/// nor too hard, trains the Reasoner on them, and evaluates it. Finished work is not repeated: the
/// same command resumes an interrupted round, and several processes may run it at once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay evolve-round 1 --images ~/photos --evolution mine
  visplay evolve-round 3
  visplay evolve-round next --pipeline pipelines/qwen2.5-vl-3b.toml
  visplay evolve-round 3 --dry-run
  visplay evolve-round next --alone         from cron, where the last run may still be going on")]
pub struct EvolveRoundArgs {
    /// Number of the round, from 1, or `next` for the first unfinished one.
    #[arg(value_name = "N|next", value_parser = round_choice)]
    round: RoundChoice,
    /// Folder, image file, Parquet file or archive to ingest first, in addition to the evolution's
    /// images; may be repeated.
    #[arg(long, value_name = "DIR")]
    images: Vec<PathBuf>,
    /// Show what would run, without running it.
    #[arg(long)]
    dry_run: bool,
    /// Run the round only if no other process works on the evolution; otherwise end with exit code
    /// 5. For cron.
    #[arg(long, conflicts_with = "dry_run")]
    alone: bool,
    /// Try shards again that were set aside because workers were lost with them on two hosts.
    #[arg(long)]
    retry_set_aside: bool,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    node_cache: NodeCacheArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    job: JobArgs,
}

/// The round to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RoundChoice {
    Next,
    Number(u32),
}

pub(super) fn round_choice(text: &str) -> Result<RoundChoice, String> {
    match text.parse() {
        _ if text == "next" => Ok(RoundChoice::Next),
        Ok(number @ 1..=9999) => Ok(RoundChoice::Number(number)),
        _ => Err("expected a number from 1 to 9999, or `next`".to_owned()),
    }
}

/// Runs `visplay evolve-round`.
pub fn cmd_evolve_round(args: &EvolveRoundArgs, ui: &Ui) -> Result<()> {
    let job = args.job.begin();
    job.end(&args.store, run_rounds(args, &job, ui))
}

fn run_rounds(args: &EvolveRoundArgs, job: &Job, ui: &Ui) -> Result<()> {
    let start = Instant::now();
    let mut pipeline = args.pipeline.load()?;
    pipeline.model.device = args.device.device.unwrap_or(pipeline.model.device);
    args.threads.start()?;
    if args.dry_run {
        return dry_run::print(args, &pipeline, ui);
    }
    let session = Session::of_worker(args.node_cache.apply(args.store.open_or_create()?)?, ui, job);
    let store = &session.store;
    let _alone = args.alone.then(|| claim_alone(store, &pipeline.evolution)).transpose()?;
    let device = pipeline.model.device.to_string();
    let worker = session.worker(WorkerSpec { command: "evolve-round", role: WorkerRole::Any, device });
    let runner = Runner { progress: &worker, retry: args.retry_set_aside, ..session.runner() };
    let round = round_of(args, store, &pipeline)?;
    worker.works_on(&pipeline.evolution, round);
    let ingested = ingest_images(args, &pipeline, &runner).map_err(command_error)?;
    if let Some(ingested) = &ingested {
        report_images(ingested, store, ui);
        check_sources(ingested)?;
    }
    for remark in pipeline.lints() {
        ui.say(format!("note: {remark}"));
    }
    let mut announcement = Announcement::new(store, &pipeline);
    let run = evolve_round(&pipeline, &runner, round, |number| {
        ui.say(plan_text(&pipeline, number, images_of(store, &pipeline.evolution)));
        // Without it the round runs as well, but workers do not find it.
        if let Err(e) = announcement.begin(number) {
            ui.say(format!("warning: `visplay work` cannot find round {number}: {e}"));
        }
    });
    let withdrawn = announcement.end(&run);
    if let Err(EvolutionError::Gate { gates, .. }) = &run {
        for line in format::columns(&round_table::gates(gates)) {
            ui.say(format!("  {line}"));
        }
    }
    let rounds = run.map_err(command_error)?;
    withdrawn?;
    let last_found = rounds.iter().filter(|round| round.already_finished).map(|round| round.report.round).max();
    if let (Some(round), Some(ingested)) = (last_found, ingested.filter(|ingested| ingested.new_images > 0)) {
        ui.say(format!(
            "rounds up to {round} finished before the {} new images were added; later rounds use them",
            format::count(ingested.new_images)
        ));
    }
    let Some(last) = rounds.last() else { return Err(CommandError::failed("no round ran")) };
    let times = last.times(store)?;
    let truth = TruthFile::of_pipeline(&pipeline);
    if let TruthFile::Missing { problem } = &truth {
        ui.say(format!("note: the accuracy of pseudo-labels is not shown: {problem}"));
    }
    let labels = truth.scenes().map(|truth| curriculum_truth(store, last, truth)).transpose()?;
    if ui.json {
        return ui.result_json(&json!({
            "round": round,
            "result": last.result.digest()?,
            "action": last.result.action,
            "report": report_with_boxes(last, store, Some(ui))?,
            "rounds": rounds.iter().map(|round| report_with_boxes(round, store, None)).collect::<Result<Vec<_>>>()?,
            "times": times,
            "labels": labels,
            "found": last.already_finished,
            "store": store.root(),
        }));
    }
    round_table::print(&rounds, &times, store, &pipeline, labels.as_ref(), start, ui)
}

/// Converts an error of the rounds. In a job of a batch system, a device that cannot be used is a
/// fault of the node.
fn command_error(error: EvolutionError) -> CommandError {
    match BatchJob::current() {
        Some(_) => CommandError::of_worker(error),
        None => error.into(),
    }
}

/// Claims an evolution for this process alone.
fn claim_alone(store: &Store, evolution: &str) -> Result<Claim> {
    claim_evolution(store, evolution)?.map_err(|holder| {
        let message = match *holder {
            Some(note) => {
                let job = note.job.as_ref().map_or(String::new(), |job| format!(" ({job})"));
                let WorkerNote { process: Process { host, pid, .. }, round, .. } = note;
                format!("round {round} of {evolution} is under way: process {pid} on {host}{job} works on it")
            }
            None => format!("another process works on {evolution} already"),
        };
        let hint = "`visplay status` shows its progress; without --alone, this command joins it".to_owned();
        CommandError { code: exit::UNDER_WAY, message, hint: Some(hint) }
    })
}

/// Returns a round's report in JSON, with the share of answers with a box beside every accuracy.
/// Low shares are reported to `ui`.
fn report_with_boxes(round: &FinishedRound, store: &Store, ui: Option<&Ui>) -> Result<Value> {
    let boxes = boxed_shares(store, round)?;
    if let Some(ui) = ui {
        round_table::warn_of_few_boxes(&boxes, ui);
    }
    let mut report = serde_json::to_value(&round.report).map_err(CommandError::from_failure)?;
    for (change, score) in round.report.scores.iter().zip(report["scores"].as_array_mut().into_iter().flatten()) {
        score["boxed_share"] = json!(boxes.get(&(change.benchmark.clone(), change.protocol.clone())));
    }
    Ok(report)
}

/// Ingests what the command names, or what the pipeline names if the evolution has no images yet or
/// parts of them are lost.
fn ingest_images(
    args: &EvolveRoundArgs,
    pipeline: &Pipeline,
    runner: &Runner<'_>,
) -> Result<Option<IngestSummary>, EvolutionError> {
    let evolution = pipeline.evolution.as_str();
    let has_images = || -> Result<bool, StageError> {
        let Some(head) = runner.store.head(evolution, IMAGES)? else { return Ok(false) };
        Ok(runner.store.result_with_outputs(head.result)?.is_some())
    };
    let sources = if !args.images.is_empty() {
        args.images.as_slice()
    } else if !pipeline.ingest.sources.is_empty() && !has_images()? {
        pipeline.ingest_sources()?
    } else {
        return Ok(None);
    };
    // Fail before reading the images if the device cannot be used.
    pipeline.model.device.open().map_err(StageError::from)?;
    let options = pipeline.ingest.options();
    Ok(Some(ingest(&IngestRequest { evolution, sources, column: None, options: &options }, runner)?))
}

/// Reports how many images were added, and how many the evolution has.
fn report_images(ingested: &IngestSummary, store: &Store, ui: &Ui) {
    if ingested.left_behind > 0 {
        ui.say(format!(
            "the ingest options changed: {} images of earlier ingests are no longer among the evolution's images",
            format::count(ingested.left_behind)
        ));
    }
    say_mistaken_files(ingested, store, ui);
    let all = ingested.table.counts.rows_out;
    let mut text =
        format!("{} files read: {} new images", format::count(ingested.entries), format::count(ingested.new_images));
    if all > ingested.new_images {
        text = format!("{text}, {} in total", format::count(all));
    }
    let reasons: Vec<String> = ingested
        .new_rejects
        .iter()
        .map(|(reason, n)| format!("{} {}", format::count(*n), reason.replace('_', " ")))
        .collect();
    if !reasons.is_empty() {
        let view = store.root().join("views").join(&ingested.reference.evolution).join("rejects");
        text = format!("{text}; rejected: {} (see {})", reasons.join(", "), view.display());
    }
    ui.say(text);
}

/// Returns the number of images of an evolution, if it is known.
fn images_of(store: &Store, evolution: &str) -> Option<u64> {
    let head = store.head(evolution, IMAGES).ok().flatten()?;
    Some(store.result(head.result).ok().flatten()?.counts.rows_out)
}

/// Returns the number of the round to run.
fn round_of(args: &EvolveRoundArgs, store: &Store, pipeline: &Pipeline) -> Result<u32> {
    match args.round {
        RoundChoice::Next => Ok(next_round(store, &pipeline.evolution)?),
        RoundChoice::Number(number) => Ok(number),
    }
}

/// Describes what a round will do, in a few lines. `images` is their number, if known.
fn plan_text(pipeline: &Pipeline, round: u32, images: Option<u64>) -> String {
    let row = |PlannedPart { part, description }| vec![part.to_owned(), description];
    let rows: Vec<Vec<String>> = plan(pipeline, images).into_iter().map(row).collect();
    format!("round {round} of {}\n  {}", pipeline.evolution, format::columns(&rows).join("\n  "))
}
