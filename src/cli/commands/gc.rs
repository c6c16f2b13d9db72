//! `visplay gc`: garbage collection of the store.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::args::StoreArgs;
use crate::cli::{Result, Ui, format};
use crate::store::GarbageOptions;

/// List files that no ref reaches, and delete them with --delete.
///
/// Files used within the grace period are kept, because a run in progress may still need them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay gc                       list the files
  visplay gc --delete              delete them
  visplay gc --delete --grace 0    include files used just now (only while nothing else runs)")]
pub struct GcArgs {
    /// Delete the files.
    #[arg(long)]
    delete: bool,
    /// Keep files used within this many hours.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    grace: u32,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs `visplay gc`.
pub fn cmd_gc(args: &GcArgs, ui: &Ui) -> Result<()> {
    let store = args.store.open()?;
    let grace = Duration::from_secs(u64::from(args.grace) * 3600);
    let found = store.collect_garbage(GarbageOptions { grace, delete: args.delete })?;
    if ui.json {
        return ui.result_json(&json!({
            "deleted": args.delete,
            "live": found.live,
            "spared": found.spared,
            "bytes": found.bytes,
            "garbage": found.garbage,
        }));
    }
    for file in &found.garbage {
        ui.result(format!("{:>10}  {}", format::bytes(file.bytes), format::plain(&file.name)))?;
    }
    let [n, used, spared] = [found.garbage.len() as u64, found.live, found.spared].map(format::count);
    let state = if args.delete { "deleted" } else { "would be deleted (pass --delete)" };
    let bytes = format::bytes(found.bytes);
    ui.result(format!("{n} files, {bytes} {state}; {used} in use, {spared} within the grace period"))
}
