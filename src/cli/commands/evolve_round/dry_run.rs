//! `evolve-round --dry-run`: what would run, from where, and why; the store is left as it is.

use std::path::Path;

use serde_json::{Value, json};

use super::{EvolveRoundArgs, images_of, round_of, take_images};
use crate::cli::error::CommandError;
use crate::cli::interrupt::listen_for_interrupt;
use crate::cli::output::format;
use crate::cli::output::progress::TerminalProgress;
use crate::cli::output::ui::Ui;
use crate::evolution::pipeline::Pipeline;
use crate::evolution::{EvolutionError, evolve_round, nearest_differences, part_of, plan};
use crate::stages::{Runner, StageError};
use crate::store::{Action, ActionDifference, Store, StoreError, scratch_folder};

/// How many differences are named.
const NAMED: usize = 6;

/// What a run would begin with.
struct Next {
    phase: &'static str,
    missing: usize,
    parts: usize,
    action: Action,
}

/// Prints what the command would do without `--dry-run`.
pub fn print(args: &EvolveRoundArgs, pipeline: &Pipeline, ui: &Ui) -> Result<(), CommandError> {
    let scratch = scratch_folder(&std::env::temp_dir())?;
    let store = store(&args.store.store, scratch.path())?;
    let (interrupt, progress) = (listen_for_interrupt(), TerminalProgress::new(ui));
    let runner = Runner { store: &store, progress: &progress, interrupt: &interrupt, dry_run: true };
    let round = round_of(args, &store, pipeline)?;
    let mut begun = Vec::new();
    let next = match take_images(args, pipeline, &runner) {
        Err(EvolutionError::Stage(StageError::WouldRun { phase, missing, shards, action })) => {
            let next = Next { phase, missing, parts: shards, action: *action };
            return ingest_first(pipeline, round, &next, &store, ui);
        }
        Err(e) => return Err(e.into()),
        Ok(_) => match evolve_round(pipeline, &runner, round, |number| begun.push(number)) {
            Err(EvolutionError::Stage(StageError::WouldRun { phase, missing, shards, action })) => {
                Some(Next { phase, missing, parts: shards, action: *action })
            }
            Err(e) => return Err(e.into()),
            Ok(_) => None,
        },
    };
    let first = begun.first().copied().unwrap_or(round);
    match next {
        // Every stage of it has its results: nothing is left but to name them.
        None if begun.is_empty() => nothing(pipeline, round, ui),
        None => nearly(pipeline, first, round, ui),
        Some(next) => would_run(pipeline, (first, round), &next, &store, ui),
    }
}

/// The store as it is, or an empty one where there is none yet.
fn store(root: &Path, scratch: &Path) -> Result<Store, CommandError> {
    let is_empty = match std::fs::read_dir(root) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    };
    if is_empty {
        return Ok(Store::open_or_create(&scratch.join("empty"))?);
    }
    Ok(Store::open(root)?.dry_overlay(&scratch.join("over")))
}

fn nothing(pipeline: &Pipeline, round: u32, ui: &Ui) -> Result<(), CommandError> {
    if ui.json {
        return ui.result_json(&json!({"round": round, "next": Value::Null, "why": "done"}));
    }
    ui.result(format!("round {round} of {} is done: nothing would run", pipeline.evolution))
}

fn nearly(pipeline: &Pipeline, first: u32, round: u32, ui: &Ui) -> Result<(), CommandError> {
    let why = "every stage has its results, which another evolution or an earlier run made; only names are to be given";
    if ui.json {
        return ui.result_json(&json!({
            "round": round, "first_missing_round": first, "next": Value::Null, "why": why,
        }));
    }
    ui.result(format!("rounds {first} to {round} of {}: {why}", pipeline.evolution))
}

fn ingest_first(pipeline: &Pipeline, round: u32, next: &Next, store: &Store, ui: &Ui) -> Result<(), CommandError> {
    let why = why(store, &next.action)?;
    if ui.json {
        return ui.result_json(&json!({
            "round": round, "first_missing_round": 1, "next": next.phase, "part": "images", "missing": next.missing,
            "parts": next.parts, "why": why.0, "differences": why.1,
        }));
    }
    ui.result(format!("the images of {} come first: {} ({})", pipeline.evolution, next.phase, parts(next)))?;
    ui.result(format!("why: {}", why.0))?;
    ui.result(format!("then whatever is missing up to round {round}"))
}

fn parts(next: &Next) -> String {
    let (missing, all) = (format::count(next.missing as u64), format::count(next.parts as u64));
    if next.parts == 1 { "1 part".to_owned() } else { format!("{missing} of {all} parts are to be made") }
}

fn would_run(
    pipeline: &Pipeline,
    (first, round): (u32, u32),
    next: &Next,
    store: &Store,
    ui: &Ui,
) -> Result<(), CommandError> {
    let (part, step) = part_of(pipeline, first, &next.action);
    let plan = plan(pipeline, images_of(store, &pipeline.evolution));
    let at = plan.iter().position(|planned| planned.part == part).unwrap_or(0);
    let (why, differences) = why(store, &next.action)?;
    if ui.json {
        let state = |n: usize| {
            if n < at {
                "done"
            } else if n == at {
                "next"
            } else {
                "to do"
            }
        };
        let plan: Vec<Value> = (plan.iter().enumerate())
            .map(|(n, planned)| json!({"part": planned.part, "what": planned.what, "state": state(n)}))
            .collect();
        return ui.result_json(&json!({
            "round": round, "first_missing_round": first, "next": next.phase, "part": part, "step": step,
            "missing": next.missing, "parts": next.parts, "plan": plan, "why": why, "differences": differences,
        }));
    }
    ui.result(format!("round {first} of {} would run", pipeline.evolution))?;
    let mut rows = vec![["part", "what", "state"].map(str::to_owned).to_vec()];
    for (n, planned) in plan.iter().enumerate() {
        let state = match n.cmp(&at) {
            std::cmp::Ordering::Less => "done".to_owned(),
            std::cmp::Ordering::Greater => "to do".to_owned(),
            std::cmp::Ordering::Equal => {
                let step = step.map_or(String::new(), |step| format!("at step {}: ", step + 1));
                format!("{step}{} ({})", next.phase, parts(next))
            }
        };
        rows.push(vec![planned.part.to_owned(), planned.what.clone(), state]);
    }
    for line in format::columns(&rows) {
        ui.result(format!("  {line}"))?;
    }
    ui.result(format!("why: {why}"))?;
    if first < round {
        ui.result(format!("then rounds {} to {round}", first + 1))?;
    }
    Ok(())
}

/// Why an action has no result: what differs from the nearest one that has.
fn why(store: &Store, action: &Action) -> Result<(String, Vec<ActionDifference>), StoreError> {
    let stage = &action.stage;
    let Some(differences) = nearest_differences(store, action)? else {
        return Ok((format!("the store has no result of {stage} yet"), Vec::new()));
    };
    let shown = |value: &Option<String>| {
        let text = value.as_deref().unwrap_or("nothing").trim_matches('"');
        // A digest is told by its first digits.
        if text.len() >= 64 && !text.contains(' ') && !text.contains('{') {
            format!("{text:.12}")
        } else {
            text.to_owned()
        }
    };
    let named: Vec<String> = (differences.iter().take(NAMED))
        .map(|d| format!("{} {} -> {}", d.key, shown(&d.before), shown(&d.after)))
        .collect();
    let more = differences.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let text = if differences.is_empty() && store.result_with_outputs(action.key()?)?.is_some() {
        format!(
            "the result of {stage} is there, which another evolution or an earlier run made; only its name is to be given"
        )
    } else if differences.is_empty() {
        format!("parts of the result of {stage} are gone")
    } else {
        format!("no result of {stage} has this key; the nearest differs in {}{more}", named.join(", "))
    };
    Ok((text, differences))
}
