//! `visplay verify`: finds and sets aside what is damaged.

use clap::Args;
use serde_json::json;

use crate::cli::args::StoreArgs;
use crate::cli::error::CommandError;
use crate::cli::output::format;
use crate::cli::output::ui::Ui;
use crate::store::{Depth, ProblemKind, Store};

/// Look for damaged, missing and foreign files, and set aside what is not as it must be.
///
/// What is set aside lies in the store's `quarantine` folder; nothing is deleted. The next run of the same command makes again
/// what is gone. Exits with 4 when anything is wrong.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay verify --quick          names, sizes and references
  visplay verify --full           every byte
  visplay verify --full --look    only tell, touch nothing")]
pub struct VerifyArgs {
    /// Look at names, sizes and references only (the default).
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Read every byte.
    #[arg(long)]
    full: bool,
    /// Only tell, and leave everything where it is.
    #[arg(long)]
    look: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs `visplay verify`.
pub fn cmd_verify(args: &VerifyArgs, ui: &Ui) -> Result<(), CommandError> {
    let store = Store::open_for_repair(&args.store.store)?;
    let depth = if args.full { Depth::Full } else { Depth::Quick };
    let report = store.verify(depth, !args.look)?;
    if ui.json {
        ui.result_json(&json!({
            "files": report.files,
            "bytes": report.bytes,
            "leftovers": report.leftovers,
            "in_quarantine": report.in_quarantine,
            "problems": report.problems,
        }))?;
    } else {
        for problem in &report.problems {
            let kind = match problem.kind {
                ProblemKind::Damaged => "damaged",
                ProblemKind::Missing => "missing",
                ProblemKind::Foreign => "foreign",
            };
            ui.result(format!("{kind}  {}: {}", format::plain(&problem.name), problem.detail))?;
            if let Some(place) = &problem.quarantined {
                ui.result(format!("         set aside as {}", format::plain(place)))?;
            }
        }
        let looked = format!("{} files, {}", format::count(report.files), format::bytes(report.bytes));
        let rest = match (report.leftovers, report.in_quarantine) {
            (0, 0) => String::new(),
            (left, aside) => format!(" ({left} temporary files of stopped runs, {aside} in quarantine)"),
        };
        match report.problems.len() {
            0 => ui.result(format!("{looked}: all as it must be{rest}"))?,
            n => ui.result(format!("{looked}: {n} problems{rest}"))?,
        }
    }
    match report.problems.len() {
        0 => Ok(()),
        n => Err(CommandError::damaged(format!("the store {} has {n} problems", store.root().display())).with_hint(
            "run the commands that made the lost parts again (such as `visplay ingest`); they make only what is gone",
        )),
    }
}
