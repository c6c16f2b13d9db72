//! `visplay drain`: asks workers to end.

use clap::Args;
use serde_json::json;

use crate::cli::args::StoreArgs;
use crate::cli::{CommandError, Result, Ui};

/// Ask workers to finish their shards and take no more.
///
/// A drained worker gives its leases back and ends with exit code 75. The round goes on with the
/// other workers, or with new ones.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay drain --all
  visplay drain n3-4711              the worker with this name in `visplay status`
  visplay drain n3-4711 --now        drop the shard in hand as well")]
pub struct DrainArgs {
    /// Names of workers, as `visplay status` prints them.
    #[arg(value_name = "WORKER", required_unless_present = "all")]
    workers: Vec<String>,
    /// Drain every worker of the store.
    #[arg(long, conflicts_with = "workers")]
    all: bool,
    /// Drop the shards in hand instead of finishing them, and free the leases of workers that do
    /// not answer.
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs `visplay drain`.
pub fn cmd_drain(args: &DrainArgs, ui: &Ui) -> Result<()> {
    let store = args.store.open()?;
    let known = store.workers()?;
    let unknown = args.workers.iter().find(|name| !known.iter().any(|sign| sign.note.name() == **name));
    if let Some(name) = unknown {
        return Err(
            CommandError::usage(format!("no worker is named `{name}`")).with_hint("`visplay status` lists the workers")
        );
    }
    let mut names = Vec::new();
    for sign in known.iter().filter(|sign| args.all || args.workers.contains(&sign.note.name())) {
        store.request_drain(&sign.note.process, args.now)?;
        // A process that hangs answers no request, so its lease is freed for it.
        if let (true, Some(shard)) = (args.now, &sign.note.shard)
            && shard.held_by.is_none()
        {
            store.revoke_lease(shard.action, &sign.note.process)?;
        }
        names.push(sign.note.name());
    }
    if ui.json {
        return ui.result_json(&json!({"drained": names, "now": args.now}));
    }
    match names.len() {
        0 => ui.result("no worker is known"),
        _ => ui.result(format!("asked to end: {} (within 10 seconds, they read the request)", names.join(", "))),
    }
}
