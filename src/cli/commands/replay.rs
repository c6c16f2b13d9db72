//! `visplay replay`: recomputes stored results and compares them with the originals.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use crate::analysis::compare::{LOGPROB_TOLERANCE, MatchLevel, NUMBER_TOLERANCE, WEIGHT_TOLERANCE};
use crate::cli::args::{PipelineArgs, StoreArgs, ThreadArgs};
use crate::cli::session::Session;
use crate::cli::{CommandError, Result, Ui, format};
use crate::evolution::{ReplayReport, ReplayRequest, ReplayTarget, ReplayedResult, replay};

/// Recompute stored results from their stored inputs and compare.
///
/// Recomputed results go to a scratch folder; the store does not change. They are compared by the
/// digests of their objects, then row by row, then within tolerances (1e-5 for log-probabilities
/// and weights; 1e-5 absolute or 1e-4 relative for other numbers), and each result is reported with
/// the strictest level that it passes. Settings, prompts, base model and images are those of the
/// original round; the pipeline file is used only to locate benchmark files. The exit code is 1 if
/// a result passes no level.
#[derive(Debug, Args)]
#[command(after_help = "Parts of a round: base, images, questions, answers (or votes), rewards, update, questioner,
reasoner, curriculum, keep-best, evaluation (or scores), models, round.

Examples:
  visplay replay nano/round-0001
  visplay replay nano/round-0001/questions --sample 5
  visplay replay nano/images
  visplay replay 3fa9c0")]
pub struct ReplayArgs {
    /// A round, a part of a round, the images, or the first digits of an action's, result's or
    /// object's digest.
    #[arg(value_name = "REF|DIGEST", value_parser = ReplayTarget::parse)]
    what: ReplayTarget,
    /// Replay only K of the results, chosen at random by --seed.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// Seed of the random choice.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Folders and files that were ingested; needed if some of them were rejected.
    #[arg(long, value_name = "DIR")]
    images: Vec<PathBuf>,
    /// Where to create the scratch folder [default: the system's temporary folder].
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// Number of differing results that are printed.
const MAX_LISTED: usize = 5;

/// Runs `visplay replay`.
pub fn cmd_replay(args: &ReplayArgs, ui: &Ui) -> Result<()> {
    let start = Instant::now();
    let pipeline = args.pipeline.load()?;
    args.threads.start()?;
    let session = Session::new(args.store.open()?, ui);
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let request = ReplayRequest {
        store: &session.store,
        pipeline: &pipeline,
        target: &args.what,
        sample: args.sample.map(|sample| sample as usize),
        seed: args.seed,
        images: &args.images,
        scratch: &scratch,
        progress: &session.progress,
        interrupt: &session.interrupt,
    };
    let replay = replay(&request)?;
    if ui.json {
        ui.result_json(&json!({
            "results": replay.results,
            "of": replay.total,
            "tolerances": {
                "logprobs": LOGPROB_TOLERANCE,
                "weights": WEIGHT_TOLERANCE,
                "figures": {"absolute": NUMBER_TOLERANCE.0, "relative": NUMBER_TOLERANCE.1},
            },
        }))?;
    } else {
        print(&replay, &format::elapsed(start), ui)?;
    }
    let failed = differing(&replay).len();
    if failed > 0 {
        let message = format!("{failed} of {} recomputed results differ from the stored ones", replay.results.len());
        return Err(
            CommandError::failed(message).with_hint("`visplay verify --full` shows whether stored files are damaged")
        );
    }
    Ok(())
}

fn differing(replay: &ReplayReport) -> Vec<&ReplayedResult> {
    replay.results.iter().filter(|result| result.compared.level.is_none()).collect()
}

fn print(replay: &ReplayReport, took: &str, ui: &Ui) -> Result<()> {
    let mut parts: BTreeMap<_, [u64; 5]> = BTreeMap::new();
    for result in &replay.results {
        let counts = parts.entry(result.part).or_default();
        counts[0] += 1;
        counts[column(result)] += 1;
    }
    let heading = ["part", "results", "bits", "rows", "tolerances", "none"];
    let rows =
        parts.into_iter().map(|(part, counts)| [&[part.name().to_owned()], &counts.map(format::count)[..]].concat());
    ui.table(&format::with_heading(heading, rows))?;
    let differing = differing(replay);
    for result in differing.iter().take(MAX_LISTED) {
        let name = format!("{} {:.12}", result.stage, result.action.to_string());
        if let Some(why) = &result.not_recomputed {
            ui.result(format!("{name}: not recomputed: {}", format::plain(why)))?;
        }
        for m in &result.compared.mismatches {
            ui.result(format::plain(&format!(
                "{name}: {} row {} column {}: stored {}, recomputed {}",
                m.table, m.row, m.column, m.stored, m.recomputed
            )))?;
        }
    }
    if differing.len() > MAX_LISTED {
        ui.result(format!("and {} more", differing.len() - MAX_LISTED))?;
    }
    let (replayed, total) = (replay.results.len(), replay.total);
    let scope = if replayed == total { format!("{total} results") } else { format!("{replayed} of {total} results") };
    let largest = replay.results.iter().filter_map(|result| result.compared.largest).fold(0.0, f64::max);
    let verdict = match replay.results.iter().map(|result| result.compared.level).max_by_key(rank) {
        Some(Some(MatchLevel::Bits)) => "identical, bit for bit".to_owned(),
        Some(Some(MatchLevel::Rows)) => "identical rows".to_owned(),
        Some(Some(MatchLevel::Tolerances)) => format!("equal within tolerances (largest difference {largest:.1e})"),
        Some(None) => "some differ".to_owned(),
        None => "nothing to replay".to_owned(),
    };
    ui.result(format!("{scope} recomputed: {verdict} ({took})"))
}

fn rank(level: &Option<MatchLevel>) -> u8 {
    match level {
        Some(MatchLevel::Bits) => 0,
        Some(MatchLevel::Rows) => 1,
        Some(MatchLevel::Tolerances) => 2,
        None => 3,
    }
}

fn column(result: &ReplayedResult) -> usize {
    usize::from(rank(&result.compared.level)) + 1
}
