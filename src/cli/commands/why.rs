//! `visplay why`: the changes that make a stage run again.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::args::{PipelineArgs, StoreArgs, ThreadArgs};
use crate::cli::output::under_way::{UnderWay, activity, duration, job_state, stage_of};
use crate::cli::session::Session;
use crate::cli::{CommandError, Result, Ui, format};
use crate::evolution::ref_name;
use crate::stages::ingest::{IngestRequest, preview};
use crate::store::{Process, Store};

/// Explain why a stage would run again: what changed since its last result. Or explain what a round
/// waits for.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay why round 3               what round 3 waits for, and who does it
  visplay why ingest                compare the pipeline file's options with those of the last ingest
  visplay why ingest ~/photos       also list new files")]
pub struct WhyArgs {
    /// The stage to explain.
    #[arg(value_enum)]
    stage: StageName,
    /// Folders and files to compare with those ingested before; for `round`, its number.
    #[arg(value_name = "SOURCE|N")]
    sources: Vec<PathBuf>,
    /// Image column of the Parquet files.
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// A stage that can be explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StageName {
    /// Reads image files into the images table.
    Ingest,
    /// A round under way.
    Round,
}

/// Explains what a round waits for.
fn explain_round(args: &WhyArgs, evolution: &str, ui: &Ui) -> Result<()> {
    let number = match &args.sources[..] {
        [number] => number.to_str().and_then(|number| number.parse::<u32>().ok()),
        _ => None,
    };
    let round =
        number.ok_or_else(|| CommandError::usage("`why round` needs the number of a round, as in `why round 3`"))?;
    let store = args.store.open()?;
    let under_way = UnderWay::read(&store)?;
    let lines = reasons(&store, &under_way, evolution, round)?;
    if ui.json {
        return ui.result_json(&json!({"evolution": evolution, "round": round, "reasons": lines}));
    }
    lines.iter().try_for_each(|line| ui.result(line))
}

/// Returns the reasons why a round is not finished, a line each.
fn reasons(store: &Store, under_way: &UnderWay, evolution: &str, round: u32) -> Result<Vec<String>> {
    let name = format!("round {round} of {evolution}");
    if store.head(evolution, &ref_name(round, "round"))?.is_some() {
        return Ok(vec![format!("{name} is finished")]);
    }
    let jobs = under_way.jobs.jobs.iter().filter(|job| job.evolution == evolution && job.round == round);
    let is_submitted = jobs.clone().any(|job| !job.is_over);
    let mut of_jobs: Vec<String> =
        jobs.map(|job| format!("job {} ({}): {}", job.id, job.kind, job_state(job))).collect();
    of_jobs.extend(under_way.jobs.note.clone());
    let Some(open) = under_way.rounds.iter().find(|open| open.evolution == evolution && open.round == round) else {
        let stopped = ref_name(round, "stopped");
        let line = if store.head(evolution, &stopped)?.is_some() {
            format!("{name} was stopped by a gate; `visplay show {evolution}/{stopped}` shows it")
        } else if is_submitted {
            format!("{name} has been submitted and has not begun")
        } else {
            format!("{name} has not begun, or has failed; `visplay evolve-round {round}` runs it and says why")
        };
        of_jobs.insert(0, line);
        return Ok(of_jobs);
    };
    let Some(foremost) = under_way.foremost(open) else {
        of_jobs.insert(0, format!("{name}: {}", under_way.without_workers(open)));
        return Ok(of_jobs);
    };
    let mut lines = vec![format!("{name} is at {}", stage_of(foremost))];
    for sign in under_way.workers_of(open) {
        let mut line = format!("{}: {}", sign.note.name(), activity(sign));
        if !sign.is_lost {
            line = format!("{line}; last sign {} ago", duration(sign.age));
        }
        lines.push(line);
    }
    // A holder without a note: of an earlier version, or whose note was lost.
    let held: Vec<_> =
        under_way.workers_of(open).filter_map(|sign| sign.note.shard.as_ref()?.held_by.clone()).collect();
    for holder in held.iter().filter(|holder| !under_way.workers.iter().any(|sign| sign.note.process == **holder)) {
        let Process { host, pid, .. } = holder;
        lines.push(format!("{host}-{pid} has given no sign; its lease is free a minute after its last heartbeat"));
    }
    lines.dedup();
    lines.extend(of_jobs);
    Ok(lines)
}

/// Number of new files that are listed.
const MAX_LISTED: usize = 10;

/// Runs `visplay why`.
pub fn cmd_why(args: &WhyArgs, ui: &Ui) -> Result<()> {
    let pipeline = args.pipeline.load()?;
    if args.stage == StageName::Round {
        return explain_round(args, &pipeline.evolution, ui);
    }
    args.threads.start()?;
    let session = Session::new(args.store.open()?, ui);
    let options = pipeline.ingest.options();
    let request = IngestRequest {
        evolution: &pipeline.evolution,
        sources: &args.sources,
        column: args.column.as_deref(),
        options: &options,
    };
    let preview = preview(&request, &session.runner())?;
    if ui.json {
        return ui.result_json(&json!({
            "last": preview.last.as_ref().map(ToString::to_string),
            "differences": preview.differences,
            "broken": preview.damaged.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "new": preview.new,
        }));
    }
    let Some(last) = &preview.last else {
        return ui.result(format!("{} has no images yet: the whole stage would run", pipeline.evolution));
    };
    for d in &preview.differences {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(absent)".into());
        ui.result(format!("{}: {} -> {}", d.key, shown(&d.before), shown(&d.after)))?;
    }
    for r in &preview.damaged {
        ui.result(format!("{r}: some of its data is missing and would be recomputed"))?;
    }
    for label in preview.new.iter().take(MAX_LISTED) {
        ui.result(format!("new: {}", format::plain(label)))?;
    }
    if preview.new.len() > MAX_LISTED {
        ui.result(format!("and {} more new files or rows", format::count((preview.new.len() - MAX_LISTED) as u64)))?;
    }
    if preview.differences.is_empty() && preview.new.is_empty() && preview.damaged.is_empty() {
        ui.result(format!("nothing changed since {last}: nothing would run"))?;
    }
    Ok(())
}
