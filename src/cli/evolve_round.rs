//! `visplay evolve-round`: runs a round of the method, and whatever is missing before it.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::context::{self, DeviceArgs, PipelineArgs, StoreArgs, ThreadArgs};
use super::error::CommandError;
use super::round_table;
use super::ui::Ui;
use crate::evolution::pipeline::Pipeline;
use crate::evolution::{EvolutionError, evolve_round, next_round};
use crate::stages::ingest::{IMAGES, IngestRequest, ingest};
use crate::stages::{Runner, StageError};
use crate::store::Store;

/// Run rounds of the evolution up to round N.
///
/// A round trains the Questioner, lets it ask about the round's images, lets the Reasoner answer and vote, keeps the questions that are
/// neither too easy nor too hard, trains the Reasoner on them, and measures it. What is done already is found, not repeated: a round
/// that was stopped goes on by the same command, and several processes may run it at once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay evolve-round 1 --images ~/photos
  visplay evolve-round 3
  visplay evolve-round next --pipeline pipelines/qwen2.5-vl-3b.toml
  visplay evolve-round 3 --dry-run")]
pub struct EvolveRoundArgs {
    /// The round, from 1, or `next` for the first that is not done.
    #[arg(value_name = "N|next")]
    round: RoundChoice,
    /// Folders, image files and Parquet files that are ingested first.
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
    let interrupt = context::listen_for_interrupt();
    let progress = context::progress(ui);
    let store = Store::open_or_create(&args.store.store)?;
    let runner = Runner { store: &store, progress: &progress, interrupt: &interrupt, dry_run: args.dry_run };
    if !args.dry_run {
        take_images(args, &pipeline, &runner)?;
    }
    let round = match args.round {
        RoundChoice::Next => next_round(&store, &pipeline.evolution)?,
        RoundChoice::Number(number) => number,
    };
    let mut begun = Vec::new();
    let evolved = evolve_round(&pipeline, &runner, round, |number| {
        begun.push(number);
        ui.say(plan(&pipeline, number));
    });
    let done = match evolved {
        Err(EvolutionError::Stage(StageError::WouldRun { phase, missing, shards })) => {
            return would_run(&begun, round, phase, (missing, shards), ui);
        }
        evolved => evolved?,
    };
    let Some(last) = done.last() else { return Err(CommandError::failed("no round was run")) };
    let times = last.times(&store)?;
    if ui.json {
        return ui.result_json(&json!({
            "round": round,
            "result": last.result.digest()?,
            "action": last.result.action,
            "report": last.report,
            "times": times,
            "found": last.found,
            "store": store.root(),
        }));
    }
    round_table::print(&done, &times, &store, &pipeline, clock, ui)
}

/// Ingests what the command names, or what the pipeline names if the evolution has no images yet.
fn take_images(args: &EvolveRoundArgs, pipeline: &Pipeline, runner: &Runner<'_>) -> Result<(), CommandError> {
    let evolution = pipeline.evolution.as_str();
    let sources = if !args.images.is_empty() {
        &args.images
    } else if runner.store.head(evolution, IMAGES)?.is_none() && !pipeline.ingest.sources.is_empty() {
        &pipeline.ingest.sources
    } else {
        return Ok(());
    };
    // What cannot be computed on is said before the images are read, not after.
    pipeline.model.device.open()?;
    let options = pipeline.ingest.options();
    ingest(&IngestRequest { evolution, sources, column: None, options: &options }, runner)?;
    Ok(())
}

fn would_run(
    begun: &[u32],
    round: u32,
    phase: &str,
    (missing, shards): (usize, usize),
    ui: &Ui,
) -> Result<(), CommandError> {
    let first = begun.first().copied().unwrap_or(round);
    if ui.json {
        return ui.result_json(&json!({
            "round": round, "first_missing_round": first, "next": phase, "missing": missing, "parts": shards,
        }));
    }
    ui.result(format!(
        "rounds before {first} are done; round {first} would go on with {phase} ({missing} of {shards} parts)"
    ))?;
    if first < round {
        ui.result(format!("then rounds {} to {round}", first + 1))?;
    }
    Ok(())
}

/// What a round will do, in a few lines.
fn plan(pipeline: &Pipeline, round: u32) -> String {
    let (asks, answers) = (&pipeline.update.questioner, &pipeline.update.reasoner);
    let slice = match pipeline.round.images {
        0 => "all images".to_owned(),
        n => format!("{n} images"),
    };
    format!(
        "round {round} of {}: {slice}\n  Questioner: {} steps of {} images x {} questions x {} answers\n  \
         curriculum: {} questions an image x {} answers, confidence {} to {}\n  \
         Reasoner: {} steps of {} rows x {} answers\n  evaluation: {} benchmarks",
        pipeline.evolution,
        asks.steps,
        asks.prompts_per_step,
        pipeline.questioner.group_size,
        pipeline.questioner.reward_samples,
        pipeline.round.questions_per_image,
        pipeline.curriculum.label_samples,
        pipeline.curriculum.low,
        pipeline.curriculum.high,
        answers.steps,
        answers.prompts_per_step,
        pipeline.reasoner.group_size,
        pipeline.evaluation.benchmarks.len(),
    )
}
