//! `visplay gc`: garbage collection of the store.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::args::StoreArgs;
use crate::cli::{Result, Ui, format};
use crate::evolution::find_droppable;
use crate::store::GarbageOptions;

/// List files that no ref reaches and checkpoints that can be recomputed, and delete them with
/// --delete.
///
/// Finished rounds lose the optimizer's states, the checkpoints within a training and the
/// Questioners of earlier rounds, or what `[retention]` in the pipeline file of their last run
/// says; `evolve-round` drops the same whenever it finishes a round. A dropped object is recomputed
/// from stored samples, bit for bit, when a command needs it. Files used within the grace period
/// are kept, because a run in progress may still need them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay gc                       list the files
  visplay gc --delete              delete them
  visplay gc --delete --grace 0    include files used just now (only while nothing else runs)
  visplay gc --keep-checkpoints    list only what no ref reaches")]
pub struct GcArgs {
    /// Delete the files.
    #[arg(long)]
    delete: bool,
    /// Drop nothing that a ref reaches, even if it can be recomputed.
    #[arg(long)]
    keep_checkpoints: bool,
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
    let options = GarbageOptions { grace, delete: args.delete };
    let droppable = if args.keep_checkpoints { Vec::new() } else { find_droppable(&store, None)? };
    let objects: Vec<_> = droppable.iter().map(|droppable| (droppable.object, droppable.bytes)).collect();
    let dropped = store.drop_objects(&objects, options)?;
    let found = store.collect_garbage(options)?;
    if ui.json {
        return ui.result_json(&json!({
            "deleted": args.delete,
            "live": found.live,
            "spared": found.spared,
            "bytes": found.bytes,
            "garbage": found.garbage,
            "dropped": dropped.garbage,
            "dropped_bytes": dropped.bytes,
        }));
    }
    for file in &dropped.garbage {
        ui.result(format!("{:>10}  {} (can be recomputed)", format::bytes(file.bytes), format::plain(&file.name)))?;
    }
    for file in &found.garbage {
        ui.result(format!("{:>10}  {}", format::bytes(file.bytes), format::plain(&file.name)))?;
    }
    let [n, used, spared] = [found.garbage.len() as u64, found.live, found.spared].map(format::count);
    let state = if args.delete { "deleted" } else { "would be deleted (pass --delete)" };
    if !dropped.garbage.is_empty() {
        let (n, bytes) = (format::count(dropped.garbage.len() as u64), format::bytes(dropped.bytes));
        let state = if args.delete { "dropped" } else { "would be dropped" };
        ui.result(format!("{n} objects of finished rounds, {bytes} {state}; they can be recomputed"))?;
    }
    let bytes = format::bytes(found.bytes);
    ui.result(format!("{n} files, {bytes} {state}; {used} in use, {spared} within the grace period"))
}
