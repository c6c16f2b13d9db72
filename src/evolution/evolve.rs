//! Runs rounds in order: finished ones are looked up, damaged ones rebuilt, missing ones run.

use serde_json::Value;

use super::context::EvolutionContext;
use super::finished::{FinishedRound, SETTINGS, write_round_view};
use super::pipeline::Pipeline;
use super::round;
use super::round_state::{DamagedRound, RoundState, round_state};
use super::settings::changes_since;
use super::stored_inputs::restore_base_name;
use super::under_way::{announce_round, withdraw_round};
use super::{EvolutionError, Result};
use crate::stages::Runner;
use crate::store::WorkerRole;

/// Runs every unfinished round up to `round` and returns all rounds in order. `begun` is called
/// with the number of each round that has to be run.
///
/// # Errors
/// A stage fails, a gate stops a round, or the run is interrupted; finished work is kept.
pub fn evolve_round(
    pipeline: &Pipeline,
    runner: &Runner<'_>,
    round: u32,
    mut begun: impl FnMut(u32),
) -> Result<Vec<FinishedRound>> {
    let mut done = Vec::new();
    let mut context = None;
    for number in 1..=round {
        let finished = match round_state(runner.store, &pipeline.evolution, number)? {
            RoundState::Complete(finished) => {
                say_differences(pipeline, runner, number, &finished)?;
                if !runner.dry_run {
                    restore_base_name(&pipeline.evolution, runner.store, &finished.result)?;
                }
                write_round_view(runner.store, &pipeline.evolution, number, &finished.result)?;
                *finished
            }
            RoundState::Damaged(damaged) => {
                runner.progress.works_on(&pipeline.evolution, number);
                begun(number);
                rebuild_damaged(pipeline, runner, number, *damaged, &done)?
            }
            RoundState::Absent => {
                runner.progress.works_on(&pipeline.evolution, number);
                begun(number);
                if !runner.dry_run && runner.role == WorkerRole::Any {
                    announce_round(runner.store, pipeline, number)?;
                }
                let outcome = (|| {
                    let opened = match context.take() {
                        Some(context) => context,
                        None => EvolutionContext::new(pipeline, runner, None, number)?,
                    };
                    round::run(context.insert(opened), number, &done, None)
                })();
                if !runner.dry_run && runner.role == WorkerRole::Any {
                    withdraw_round(runner.store, &pipeline.evolution, number, &outcome)?;
                }
                outcome?
            }
        };
        done.push(finished);
    }
    Ok(done)
}

/// Recomputes the missing parts of a round. The result must be the same as before, since later
/// rounds build on it and it may have been published.
fn rebuild_damaged(
    pipeline: &Pipeline,
    runner: &Runner<'_>,
    round: u32,
    damaged: DamagedRound,
    before: &[FinishedRound],
) -> Result<FinishedRound> {
    if let Some(keys) = changed_keys(damaged.settings.as_ref(), pipeline) {
        let problem = format!(
            "parts of round {round} are missing, and it was run with other values of {keys}; restore the pipeline file of that \
             round and rerun the command to recompute them, or start another --evolution"
        );
        return Err(EvolutionError::Changed { problem });
    }
    runner.progress.say(&format!("parts of round {round} are missing; recomputing them"));
    let context = EvolutionContext::new(pipeline, runner, damaged.images, round)?;
    round::run(&context, round, before, Some(damaged.action))
}

/// Lists the keys in which stored settings differ from a pipeline file; `None` if there are none.
fn changed_keys(stored: Option<&Value>, pipeline: &Pipeline) -> Option<String> {
    let keys: Vec<String> = changes_since(stored?, pipeline).into_iter().map(|change| change.key).collect();
    (!keys.is_empty()).then(|| keys.join(", "))
}

/// Prints the settings that have changed since a finished round, which stays as it is.
fn say_differences(pipeline: &Pipeline, runner: &Runner<'_>, round: u32, finished: &FinishedRound) -> Result<()> {
    let action = runner.store.action(finished.result.action)?;
    if let Some(keys) = changed_keys(action.parameters.get(SETTINGS), pipeline) {
        let message = format!("round {round} was run with other values of {keys} and does not change");
        runner.progress.say(&format!("{message}; to use the new values, start another --evolution"));
    }
    Ok(())
}
