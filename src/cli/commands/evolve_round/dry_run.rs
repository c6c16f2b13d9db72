//! `visplay evolve-round --dry-run`: the first stage that would run, and why.

use std::cmp::Ordering;
use std::path::Path;

use serde_json::{Value, json};

use super::{EvolveRoundArgs, images_of, ingest_images, round_of};
use crate::cli::session::Session;
use crate::cli::{Result, Ui, format};
use crate::evolution::pipeline::Pipeline;
use crate::evolution::{EvolutionError, evolve_round, nearest_differences, part_of, plan};
use crate::stages::{Runner, StageError};
use crate::store::{Action, ActionDifference, Store, StoreError, scratch_folder};

/// Number of differences that are listed.
const MAX_LISTED: usize = 6;

/// The first stage that would run.
struct NextStage {
    phase: &'static str,
    missing: usize,
    shards: usize,
    action: Action,
}

/// Prints what the command would do without `--dry-run`.
pub fn print(args: &EvolveRoundArgs, pipeline: &Pipeline, ui: &Ui) -> Result<()> {
    let scratch = scratch_folder(&std::env::temp_dir())?;
    let session = Session::new(read_only_store(&args.store.store, scratch.path())?, ui);
    let (store, runner) = (&session.store, Runner { dry_run: true, ..session.runner() });
    let round = round_of(args, store, pipeline)?;
    if let Some(next) = next_stage(ingest_images(args, pipeline, &runner))? {
        return print_ingest(pipeline, round, &next, store, ui);
    }
    let mut unfinished = Vec::new();
    let next = next_stage(evolve_round(pipeline, &runner, round, |number| unfinished.push(number)))?;
    let first = unfinished.first().copied().unwrap_or(round);
    match next {
        None if unfinished.is_empty() => print_finished(pipeline, round, ui),
        None => print_only_refs_missing(pipeline, first, round, ui),
        Some(next) => print_plan(pipeline, (first, round), &next, store, ui),
    }
}

/// Returns the stage that a dry run stopped at, if it stopped.
fn next_stage<T>(dry_run: Result<T, EvolutionError>) -> Result<Option<NextStage>> {
    match dry_run {
        Err(EvolutionError::Stage(StageError::WouldRun { phase, missing, shards, action })) => {
            Ok(Some(NextStage { phase, missing, shards, action: *action }))
        }
        Err(e) => Err(e.into()),
        Ok(_) => Ok(None),
    }
}

/// Opens the store so that nothing is written to it, or an empty store if there is none yet.
fn read_only_store(root: &Path, scratch: &Path) -> Result<Store> {
    let is_empty = match std::fs::read_dir(root) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    };
    if is_empty {
        return Ok(Store::open_or_create(&scratch.join("empty"))?);
    }
    Ok(Store::open(root)?.dry_overlay(&scratch.join("over")))
}

fn print_finished(pipeline: &Pipeline, round: u32, ui: &Ui) -> Result<()> {
    if ui.json {
        return ui.result_json(&json!({"round": round, "next": Value::Null, "why": "done"}));
    }
    ui.result(format!("round {round} of {} is finished: nothing would run", pipeline.evolution))
}

/// Prints that every stage has its results already and only the refs to them are missing.
fn print_only_refs_missing(pipeline: &Pipeline, first: u32, round: u32, ui: &Ui) -> Result<()> {
    let why = "every stage has a result from another evolution or an earlier run; only the refs would be written";
    if ui.json {
        return ui.result_json(&json!({
            "round": round, "first_missing_round": first, "next": Value::Null, "why": why,
        }));
    }
    ui.result(format!("rounds {first} to {round} of {}: {why}", pipeline.evolution))
}

fn print_ingest(pipeline: &Pipeline, round: u32, next: &NextStage, store: &Store, ui: &Ui) -> Result<()> {
    let why = why(store, &next.action)?;
    if ui.json {
        return ui.result_json(&json!({
            "round": round, "first_missing_round": 1, "next": next.phase, "part": "images", "missing": next.missing,
            "parts": next.shards, "why": why.0, "differences": why.1,
        }));
    }
    ui.result(format!("the images of {} would be ingested: {} ({})", pipeline.evolution, next.phase, shards(next)))?;
    ui.result(format!("why: {}", why.0))?;
    ui.result(format!("then every unfinished round up to round {round}"))
}

fn shards(next: &NextStage) -> String {
    let (missing, all) = (format::count(next.missing as u64), format::count(next.shards as u64));
    if next.shards == 1 { "1 shard".to_owned() } else { format!("{missing} of {all} shards are missing") }
}

fn print_plan(pipeline: &Pipeline, (first, round): (u32, u32), next: &NextStage, store: &Store, ui: &Ui) -> Result<()> {
    let (part, step) = part_of(pipeline, first, &next.action);
    let plan = plan(pipeline, images_of(store, &pipeline.evolution));
    let at = plan.iter().position(|planned| planned.part == part).unwrap_or(0);
    let (why, differences) = why(store, &next.action)?;
    if ui.json {
        let plan: Vec<Value> = (plan.iter().enumerate())
            .map(|(n, planned)| {
                let state = match n.cmp(&at) {
                    Ordering::Less => "done",
                    Ordering::Equal => "next",
                    Ordering::Greater => "to do",
                };
                json!({"part": planned.part, "what": planned.description, "state": state})
            })
            .collect();
        return ui.result_json(&json!({
            "round": round, "first_missing_round": first, "next": next.phase, "part": part, "step": step,
            "missing": next.missing, "parts": next.shards, "plan": plan, "why": why, "differences": differences,
        }));
    }
    ui.result(format!("round {first} of {} would run", pipeline.evolution))?;
    let rows = plan.into_iter().enumerate().map(|(n, planned)| {
        let state = match n.cmp(&at) {
            Ordering::Less => "done".to_owned(),
            Ordering::Greater => "to do".to_owned(),
            Ordering::Equal => {
                let step = step.map_or(String::new(), |step| format!("at step {}: ", step + 1));
                format!("{step}{} ({})", next.phase, shards(next))
            }
        };
        [planned.part.to_owned(), planned.description, state]
    });
    ui.indented_table(&format::with_heading(["part", "work", "state"], rows))?;
    ui.result(format!("why: {why}"))?;
    if first < round {
        ui.result(format!("then rounds {} to {round}", first + 1))?;
    }
    Ok(())
}

/// Explains why an action has no result, by its differences from the nearest action with one.
fn why(store: &Store, action: &Action) -> Result<(String, Vec<ActionDifference>), StoreError> {
    let stage = &action.stage;
    let Some(differences) = nearest_differences(store, action)? else {
        return Ok((format!("the store has no result of {stage} yet"), Vec::new()));
    };
    let shown = |value: &Option<String>| {
        let text = value.as_deref().unwrap_or("nothing").trim_matches('"');
        // Digests are shortened.
        if text.len() >= 64 && !text.contains(' ') && !text.contains('{') {
            format!("{text:.12}")
        } else {
            text.to_owned()
        }
    };
    let named: Vec<String> = (differences.iter().take(MAX_LISTED))
        .map(|d| format!("{} {} -> {}", d.key, shown(&d.before), shown(&d.after)))
        .collect();
    let more = differences.len().saturating_sub(MAX_LISTED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let text = if differences.is_empty() && store.result_with_outputs(action.key()?)?.is_some() {
        format!("{stage} has a result from another evolution or an earlier run; only the ref to it would be written")
    } else if differences.is_empty() {
        format!("some data of the result of {stage} is missing")
    } else {
        format!("no result of {stage} has this key; the nearest one differs in {}{more}", named.join(", "))
    };
    Ok((text, differences))
}
