//! `visplay replay`: makes stored results again and says how they compare.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use crate::analysis::compare::{FIGURE_TOLERANCE, LOGPROB_TOLERANCE, Level, WEIGHT_TOLERANCE};
use crate::cli::args::{PipelineArgs, StoreArgs, ThreadArgs};
use crate::cli::error::CommandError;
use crate::cli::interrupt::listen_for_interrupt;
use crate::cli::output::format;
use crate::cli::output::progress::TerminalProgress;
use crate::cli::output::ui::Ui;
use crate::evolution::{Replay, ReplayRequest, ReplayTarget, Replayed, replay};

/// Make stored results again from their stored inputs, and compare.
///
/// Everything goes into a scratch folder; the store's results stay as they are. What comes out is compared by the digests of its
/// objects, else row by row, else within tolerances (log-probabilities and weights 1e-5; other figures 1e-5 and 1e-4 of their size), and
/// for each result the strictest level that holds is said. The settings, the prompts, the base model and the images are those that
/// the round was made with; the pipeline file only says where benchmark files lie. Exit code 1 when no level holds for a result.
#[derive(Debug, Args)]
#[command(
    after_help = "Parts of a round: base, images, questions, answers (or votes), rewards, update, questioner, reasoner, curriculum,
keep-best, evaluation (or scores), models, round.

Examples:
  visplay replay nano/round-0001
  visplay replay nano/round-0001/questions --sample 5
  visplay replay nano/images
  visplay replay 3fa9c0"
)]
pub struct ReplayArgs {
    /// A round, a part of one, the images, or the first digits of an action's, a result's or an object's digest.
    #[arg(value_name = "REF|DIGEST", value_parser = ReplayTarget::parse)]
    what: ReplayTarget,
    /// Replay so many of the results, chosen by --seed.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// The seed that chooses them.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Folders and files that were ingested: needed where some of them became no image.
    #[arg(long, value_name = "DIR")]
    images: Vec<PathBuf>,
    /// Where the scratch folder is made [default: the system's folder for temporary files].
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// How many differences are printed.
const NAMED: usize = 5;

/// Runs `visplay replay`.
pub fn cmd_replay(args: &ReplayArgs, ui: &Ui) -> Result<(), CommandError> {
    let clock = Instant::now();
    let pipeline = args.pipeline.load()?;
    args.threads.start()?;
    let store = args.store.open()?;
    let (interrupt, progress) = (listen_for_interrupt(), TerminalProgress::new(ui));
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let request = ReplayRequest {
        store: &store,
        pipeline: &pipeline,
        target: &args.what,
        sample: args.sample.map(|sample| sample as usize),
        seed: args.seed,
        images: &args.images,
        scratch: &scratch,
        progress: &progress,
        interrupt: &interrupt,
    };
    let replay = replay(&request)?;
    if ui.json {
        ui.result_json(&json!({
            "results": replay.results,
            "of": replay.of,
            "tolerances": {
                "logprobs": LOGPROB_TOLERANCE,
                "weights": WEIGHT_TOLERANCE,
                "figures": {"absolute": FIGURE_TOLERANCE.0, "relative": FIGURE_TOLERANCE.1},
            },
        }))?;
    } else {
        let took = format::duration(u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX));
        print(&replay, &took, ui)?;
    }
    let failed = failures(&replay);
    if failed > 0 {
        let message = format!("{failed} of {} results did not come out as they are stored", replay.results.len());
        return Err(CommandError::failed(message).with_hint("`visplay verify --full` tells damage from a difference"));
    }
    Ok(())
}

fn failures(replay: &Replay) -> usize {
    replay.results.iter().filter(|result| result.compared.level.is_none()).count()
}

fn print(replay: &Replay, took: &str, ui: &Ui) -> Result<(), CommandError> {
    let mut parts: BTreeMap<_, [u64; 5]> = BTreeMap::new();
    for result in &replay.results {
        let counts = parts.entry(result.part).or_default();
        counts[0] += 1;
        counts[column(result)] += 1;
    }
    let heading = ["part", "results", "bits", "rows", "tolerances", "none"].map(str::to_owned).to_vec();
    let mut rows = vec![heading];
    for (part, counts) in parts {
        let mut row = vec![part.word().to_owned()];
        row.extend(counts.map(format::count));
        rows.push(row);
    }
    for line in format::columns(&rows) {
        ui.result(line)?;
    }
    let bad: Vec<&Replayed> = replay.results.iter().filter(|result| result.compared.level.is_none()).collect();
    for result in bad.iter().take(NAMED) {
        let name = format!("{} {:.12}", result.stage, result.action.to_string());
        if let Some(why) = &result.not_made {
            ui.result(format!("{name}: not made again: {}", format::plain(why)))?;
        }
        for m in &result.compared.mismatches {
            ui.result(format::plain(&format!(
                "{name}: {} row {} column {}: stored {}, again {}",
                m.table, m.row, m.column, m.stored, m.again
            )))?;
        }
    }
    if bad.len() > NAMED {
        ui.result(format!("and {} more", bad.len() - NAMED))?;
    }
    let (done, of) = (replay.results.len(), replay.of);
    let what = if done == of { format!("{of} results") } else { format!("{done} of {of} results") };
    let largest = replay.results.iter().filter_map(|result| result.compared.largest).fold(0.0, f64::max);
    let verdict = match replay.results.iter().map(|result| result.compared.level).max_by_key(rank) {
        Some(Some(Level::Bits)) => "the same, bit for bit".to_owned(),
        Some(Some(Level::Rows)) => "the same rows".to_owned(),
        Some(Some(Level::Tolerances)) => format!("the same within tolerances (largest difference {largest:.1e})"),
        Some(None) => "not all the same".to_owned(),
        None => "nothing to replay".to_owned(),
    };
    ui.result(format!("{what} made again: {verdict} ({took})"))
}

fn rank(level: &Option<Level>) -> u8 {
    match level {
        Some(Level::Bits) => 0,
        Some(Level::Rows) => 1,
        Some(Level::Tolerances) => 2,
        None => 3,
    }
}

fn column(result: &Replayed) -> usize {
    usize::from(rank(&result.compared.level)) + 1
}
