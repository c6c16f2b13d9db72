//! `visplay verify`: finds damaged, missing and foreign files of the store.

use clap::Args;
use serde_json::json;

use crate::cli::args::StoreArgs;
use crate::cli::{CommandError, Result, Ui, format};
use crate::store::{Store, StoreProblemKind, VerifyDepth};

/// Check the store for damaged, missing and foreign files, and quarantine what is wrong.
///
/// Quarantined files are moved to the store's `quarantine` folder; nothing is deleted. Rerunning
/// the command that wrote them recomputes what is missing. The exit code is 4 if there is any
/// problem.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay verify --quick             check names, sizes and references
  visplay verify --full              check every byte
  visplay verify --full --dry-run    check every byte, change nothing")]
pub struct VerifyArgs {
    /// Check names, sizes and references only (the default).
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Read and check every byte.
    #[arg(long)]
    full: bool,
    /// Only report problems; quarantine nothing.
    #[arg(long, alias = "look")]
    dry_run: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs `visplay verify`.
pub fn cmd_verify(args: &VerifyArgs, ui: &Ui) -> Result<()> {
    let store = Store::open_for_repair(&args.store.store)?;
    let depth = if args.full { VerifyDepth::Full } else { VerifyDepth::Quick };
    let report = store.verify(depth, !args.dry_run)?;
    if ui.json {
        ui.result_json(&json!({
            "files": report.files,
            "bytes": report.bytes,
            "leftovers": report.leftovers,
            "in_quarantine": report.in_quarantine,
            "dropped": report.dropped,
            "dropped_bytes": report.dropped_bytes,
            "problems": report.problems,
        }))?;
    } else {
        for problem in &report.problems {
            let kind = match problem.kind {
                StoreProblemKind::Damaged => "damaged",
                StoreProblemKind::Missing => "missing",
                StoreProblemKind::Foreign => "foreign",
            };
            ui.result(format!("{kind}  {}: {}", format::plain(&problem.name), problem.detail))?;
            if let Some(path) = &problem.quarantined {
                ui.result(format!("         quarantined as {}", format::plain(path)))?;
            }
        }
        let checked = format!("{} files, {}", format::count(report.files), format::bytes(report.bytes));
        let rest = match (report.leftovers, report.in_quarantine) {
            (0, 0) => String::new(),
            (temporary, quarantined) => {
                format!(" ({temporary} temporary files of interrupted runs, {quarantined} files in quarantine)")
            }
        };
        match report.problems.len() {
            0 => ui.result(format!("{checked} checked: no problems{rest}"))?,
            n => ui.result(format!("{checked} checked: {n} problems{rest}"))?,
        }
        if report.dropped > 0 {
            let (n, bytes) = (format::count(report.dropped), format::bytes(report.dropped_bytes));
            ui.result(format!("{n} more objects, {bytes}, were dropped on purpose and can be recomputed"))?;
        }
    }
    match report.problems.len() {
        0 => Ok(()),
        n => Err(CommandError::damaged(format!("the store {} has {n} problems", store.root().display())).with_hint(
            "rerun the commands that wrote the missing parts (such as `visplay ingest`); they recompute only those",
        )),
    }
}
