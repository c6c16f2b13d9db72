//! `visplay log`: what was done in a store, newest first.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::args::StoreArgs;
use crate::cli::error::CommandError;
use crate::cli::output::format;
use crate::cli::output::ui::Ui;
use crate::store::{Action, StageResult};

/// List what was done, newest first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay log
  visplay log --stage ingest.pack --limit 5")]
pub struct LogArgs {
    /// Only this stage.
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs `visplay log`.
pub fn cmd_log(args: &LogArgs, ui: &Ui) -> Result<(), CommandError> {
    let store = args.store.open()?;
    let mut done: Vec<(StageResult, Option<Action>)> = Vec::new();
    for result in store.results()? {
        let action = store.action(result.action).ok();
        let stage = action.as_ref().map_or("", |a| a.stage.as_str());
        if args.stage.as_deref().is_none_or(|wanted| wanted == stage) {
            done.push((result, action));
        }
    }
    done.sort_by_key(|(r, _)| (std::cmp::Reverse(r.run.began_ms), r.action));
    done.truncate(args.limit);
    if ui.json {
        let all: Vec<Value> = done.iter().map(|(r, a)| json!({"result": r, "action": a})).collect();
        return ui.result_json(&all);
    }
    let mut rows =
        vec![["began (UTC)", "took", "stage", "in", "out", "rejects", "action", "where"].map(str::to_owned).to_vec()];
    for (r, action) in &done {
        rows.push(vec![
            format::time(r.run.began_ms),
            format::duration(r.run.took_ms),
            action.as_ref().map_or("(its action is gone)", |a| a.stage.as_str()).to_owned(),
            format::count(r.counts.rows_in),
            format::count(r.counts.rows_out),
            format::count(r.counts.rejects),
            format!("{:.12}", r.action.to_string()),
            format!("{}/{}", r.run.process.host, r.run.process.pid),
        ]);
    }
    for line in format::columns(&rows) {
        ui.result(line)?;
    }
    Ok(())
}
