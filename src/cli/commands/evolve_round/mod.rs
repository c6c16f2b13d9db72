//! `visplay evolve-round`: runs a round of the method, and whatever is missing before it.

mod dry_run;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::audit::truth_of;
use crate::cli::args::{DeviceArgs, PipelineArgs, StoreArgs, ThreadArgs};
use crate::cli::error::CommandError;
use crate::cli::interrupt::listen_for_interrupt;
use crate::cli::output::format;
use crate::cli::output::progress::TerminalProgress;
use crate::cli::output::round_table;
use crate::cli::output::ui::Ui;
use crate::evolution::pipeline::Pipeline;
use crate::evolution::{EvolutionError, PlannedPart, curriculum_truth, evolve_round, next_round, plan};
use crate::stages::ingest::{IMAGES, IngestRequest, IngestSummary, ingest};
use crate::stages::{Runner, StageError};
use crate::store::Store;

/// Run rounds of the evolution up to round N.
///
/// A round trains the Questioner, lets it ask about the round's images, lets the Reasoner answer
/// and vote, keeps the questions that are neither too easy nor too hard, trains the Reasoner on
/// them, and measures it. What is done already is found, not repeated: a round that was stopped
/// goes on by the same command, and several processes may run it at once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay evolve-round 1 --images ~/photos --evolution mine
  visplay evolve-round 3
  visplay evolve-round next --pipeline pipelines/qwen2.5-vl-3b.toml
  visplay evolve-round 3 --dry-run")]
pub struct EvolveRoundArgs {
    /// The round, from 1, or `next` for the first that is not done.
    #[arg(value_name = "N|next")]
    round: RoundChoice,
    /// Folders, image files and Parquet files that are ingested first; images that the evolution
    /// has already stay beside them.
    #[arg(long, value_name = "DIR")]
    images: Vec<PathBuf>,
    /// Say what would run, and run nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// Which round is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RoundChoice {
    Next,
    Number(u32),
}

impl FromStr for RoundChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "next" => Ok(Self::Next),
            Ok(number @ 1..=9999) => Ok(Self::Number(number)),
            _ => Err("a round is a number from 1 to 9999, or `next`".to_owned()),
        }
    }
}

/// Runs `visplay evolve-round`.
pub fn cmd_evolve_round(args: &EvolveRoundArgs, ui: &Ui) -> Result<(), CommandError> {
    let clock = Instant::now();
    let mut pipeline = args.pipeline.load()?;
    pipeline.model.device = args.device.device.unwrap_or(pipeline.model.device);
    args.threads.start()?;
    if args.dry_run {
        return dry_run::print(args, &pipeline, ui);
    }
    let interrupt = listen_for_interrupt();
    let progress = TerminalProgress::new(ui);
    let store = Store::open_or_create(&args.store.store)?;
    let runner = Runner { store: &store, progress: &progress, interrupt: &interrupt, dry_run: false };
    let round = round_of(args, &store, &pipeline)?;
    let taken = take_images(args, &pipeline, &runner)?;
    if let Some(taken) = &taken {
        say_images(taken, &store, ui);
    }
    for remark in pipeline.lints() {
        ui.say(format!("note: {remark}"));
    }
    let run = evolve_round(&pipeline, &runner, round, |number| {
        ui.say(plan_text(&pipeline, number, images_of(&store, &pipeline.evolution)));
    });
    if let Err(EvolutionError::Gate { gates, .. }) = &run {
        for line in format::columns(&round_table::gates(gates)) {
            ui.say(format!("  {line}"));
        }
    }
    let done = run?;
    let made_before = done.iter().filter(|done| done.already_finished).map(|done| done.report.round).max();
    if let (Some(round), Some(taken)) = (made_before, taken.filter(|taken| taken.new_images > 0)) {
        ui.say(format!(
            "rounds up to {round} were done before the {} new images came; later rounds take them too",
            format::count(taken.new_images)
        ));
    }
    let Some(last) = done.last() else { return Err(CommandError::failed("no round was run")) };
    let times = last.times(&store)?;
    let truth = truth_of(&pipeline, ui);
    let labels = truth.map(|truth| curriculum_truth(&store, last, &truth)).transpose()?;
    if ui.json {
        return ui.result_json(&json!({
            "round": round,
            "result": last.result.digest()?,
            "action": last.result.action,
            "report": last.report,
            "rounds": done.iter().map(|done| &done.report).collect::<Vec<_>>(),
            "times": times,
            "labels": labels,
            "found": last.already_finished,
            "store": store.root(),
        }));
    }
    round_table::print(&done, &times, &store, &pipeline, labels.as_ref(), clock, ui)
}

/// Ingests what the command names, or what the pipeline names if the evolution has no images yet or
/// parts of them are lost.
fn take_images(
    args: &EvolveRoundArgs,
    pipeline: &Pipeline,
    runner: &Runner<'_>,
) -> Result<Option<IngestSummary>, EvolutionError> {
    let evolution = pipeline.evolution.as_str();
    let there = || -> Result<bool, StageError> {
        let Some(head) = runner.store.head(evolution, IMAGES)? else { return Ok(false) };
        Ok(runner.store.result_with_outputs(head.result)?.is_some())
    };
    let sources = if !args.images.is_empty() {
        args.images.as_slice()
    } else if !pipeline.ingest.sources.is_empty() && !there()? {
        pipeline.ingest_sources()?
    } else {
        return Ok(None);
    };
    // What cannot be computed on is said before the images are read, not after.
    pipeline.model.device.open().map_err(StageError::from)?;
    let options = pipeline.ingest.options();
    Ok(Some(ingest(&IngestRequest { evolution, sources, column: None, options: &options }, runner)?))
}

/// Says what became of the files that were named, and what the evolution has now.
fn say_images(taken: &IngestSummary, store: &Store, ui: &Ui) {
    if taken.left_behind > 0 {
        ui.say(format!(
            "the ingest options changed: {} images of earlier ingests are no longer among the evolution's images",
            format::count(taken.left_behind)
        ));
    }
    let all = taken.table.counts.rows_out;
    let mut said =
        format!("{} files looked at: {} new images", format::count(taken.entries), format::count(taken.new_images));
    if all > taken.new_images {
        said = format!("{said} beside {} that were there before", format::count(all - taken.new_images));
    }
    let reasons: Vec<String> = taken
        .new_rejects
        .iter()
        .map(|(reason, n)| format!("{} {}", format::count(*n), reason.replace('_', " ")))
        .collect();
    if !reasons.is_empty() {
        let view = store.root().join("views").join(&taken.reference.evolution).join("rejects");
        said = format!("{said}; left out: {} (why: {})", reasons.join(", "), view.display());
    }
    ui.say(said);
}

/// The images of an evolution, as far as they are known.
fn images_of(store: &Store, evolution: &str) -> Option<u64> {
    let head = store.head(evolution, IMAGES).ok().flatten()?;
    Some(store.result(head.result).ok().flatten()?.counts.rows_out)
}

/// The round that is meant.
fn round_of(args: &EvolveRoundArgs, store: &Store, pipeline: &Pipeline) -> Result<u32, CommandError> {
    match args.round {
        RoundChoice::Next => Ok(next_round(store, &pipeline.evolution)?),
        RoundChoice::Number(number) => Ok(number),
    }
}

/// What a round will do, in a few lines. `images` is how many there are, where it is known.
fn plan_text(pipeline: &Pipeline, round: u32, images: Option<u64>) -> String {
    let rows: Vec<Vec<String>> =
        plan(pipeline, images).into_iter().map(|PlannedPart { part, what }| vec![part.to_owned(), what]).collect();
    format!("round {round} of {}\n  {}", pipeline.evolution, format::columns(&rows).join("\n  "))
}
