//! `visplay log`: the stored results, newest first.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::args::StoreArgs;
use crate::cli::{Result, Ui, format};
use crate::store::{Action, RunInfo, StageResult};

/// List the results of the store, newest first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay log
  visplay log --stage ingest.pack --limit 5")]
pub struct LogArgs {
    /// Show only this stage.
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// Maximum number of results to show.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs `visplay log`.
pub fn cmd_log(args: &LogArgs, ui: &Ui) -> Result<()> {
    let store = args.store.open()?;
    let mut listed: Vec<(StageResult, Option<Action>)> = Vec::new();
    for result in store.results()? {
        let action = store.action(result.action).ok();
        let stage = action.as_ref().map_or("", |a| a.stage.as_str());
        if args.stage.as_deref().is_none_or(|wanted| wanted == stage) {
            listed.push((result, action));
        }
    }
    listed.sort_by_key(|(r, _)| (std::cmp::Reverse(r.run.began_ms), r.action));
    listed.truncate(args.limit);
    if ui.json {
        let all: Vec<Value> = listed.iter().map(|(r, a)| json!({"result": r, "action": a})).collect();
        return ui.result_json(&all);
    }
    let rows = listed.iter().map(|(r, action)| {
        [
            format::time(r.run.began_ms),
            format::duration(r.run.took_ms),
            action.as_ref().map_or("(action is missing)", |a| a.stage.as_str()).to_owned(),
            format::count(r.counts.rows_in),
            format::count(r.counts.rows_out),
            format::count(r.counts.rejects),
            format!("{:.12}", r.action.to_string()),
            process_of(&r.run),
        ]
    });
    let heading = ["started (UTC)", "duration", "stage", "in", "out", "rejects", "action", "process"];
    ui.table(&format::with_heading(heading, rows))
}

/// Names the process that computed a result, and its job.
fn process_of(run: &RunInfo) -> String {
    let job = run.job.as_ref().map_or_else(String::new, |job| format!(" ({job})"));
    format!("{}/{}{job}", run.process.host, run.process.pid)
}
