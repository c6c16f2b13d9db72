//! `visplay gc`: removes what no ref leads to.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::args::StoreArgs;
use crate::cli::error::CommandError;
use crate::cli::output::format;
use crate::cli::output::ui::Ui;
use crate::store::Collection;

/// Find files that no ref leads to, and with --delete remove them.
///
/// Without --delete nothing is removed. What was used within the grace period stays, since a run may be about to name it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay gc                       what would go
  visplay gc --delete              let it go
  visplay gc --delete --grace 0    also what was used just now (no run may be under way)")]
pub struct GcArgs {
    /// Remove what is found.
    #[arg(long)]
    delete: bool,
    /// Leave alone what was used within so many hours.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    grace: u32,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs `visplay gc`.
pub fn cmd_gc(args: &GcArgs, ui: &Ui) -> Result<(), CommandError> {
    let store = args.store.open()?;
    let grace = Duration::from_secs(u64::from(args.grace) * 3600);
    let found = store.collect(Collection { grace, delete: args.delete })?;
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
    let n = format::count(found.garbage.len() as u64);
    let went = if args.delete { "removed" } else { "would be removed (--delete removes them)" };
    ui.result(format!(
        "{n} files, {} {went}; {} are in use, {} within the grace period",
        format::bytes(found.bytes),
        format::count(found.live),
        format::count(found.spared)
    ))
}
