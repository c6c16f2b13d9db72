//! `visplay cancel`: ends the jobs of submitted rounds.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::json;

use crate::cli::args::StoreArgs;
use crate::cli::{CommandError, Result, Ui};
use crate::cluster::{Cancellation, cancel, jobs, submissions};
use crate::store::Store;

/// Cancel the jobs of an evolution that `visplay submit` submitted.
///
/// Finished work is kept: submitting the round again continues it. Repeating the command is
/// harmless.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay cancel
  visplay cancel --evolution mine")]
pub struct CancelArgs {
    /// The evolution [default: the one that has jobs].
    #[arg(long, value_name = "NAME")]
    evolution: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs `visplay cancel`.
pub fn cmd_cancel(args: &CancelArgs, ui: &Ui) -> Result<()> {
    let store = args.store.open()?;
    let evolution = match &args.evolution {
        Some(evolution) => Some(evolution.clone()),
        None => evolution_with_jobs(&store)?,
    };
    let Cancellation { cancelled, ending } = match &evolution {
        Some(evolution) => cancel(&store, evolution)?,
        None => Cancellation::default(),
    };
    if ui.json {
        return ui.result_json(&json!({"evolution": evolution, "cancelled": cancelled, "ending": ending}));
    }
    let of = evolution.as_ref().map_or(String::new(), |evolution| format!(" of {evolution}"));
    if cancelled.is_empty() {
        return ui.result(format!("no job{of} is queued or running"));
    }
    ui.result(format!("cancelled the jobs{of}: {}", cancelled.join(", ")))?;
    if !ending.is_empty() {
        ui.result(format!("these have not ended yet: {}; `visplay status` shows them", ending.join(", ")))?;
    }
    ui.result("finished work is kept; `visplay submit` continues the round")
}

/// Returns the evolution that has jobs in the queue, or `None` if there is none.
fn evolution_with_jobs(store: &Store) -> Result<Option<String>> {
    let states = jobs(store, None)?;
    let alive = states.jobs.iter().filter(|job| !job.is_over).map(|job| job.evolution.clone());
    let mut names: BTreeSet<String> = alive.collect();
    if names.is_empty() {
        // A submission may be in progress, or its process may have been killed.
        names.extend(submissions(store, None)?.pop().map(|newest| newest.name.evolution));
    }
    match names.len() {
        0 | 1 => Ok(names.pop_first()),
        _ => {
            let names: Vec<String> = names.into_iter().collect();
            let message = format!("several evolutions have jobs: {}", names.join(", "));
            Err(CommandError::usage(message).with_hint("name one with --evolution"))
        }
    }
}
