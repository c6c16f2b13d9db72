//! Runs rounds in order: finished ones are looked up, damaged ones rebuilt, missing ones run.

use super::EvolutionError;
use super::context::{EvolutionContext, PinnedInputs};
use super::finished::{FinishedRound, SETTINGS, finished_round, write_round_view};
use super::pipeline::Pipeline;
use super::round;
use super::round_state::{DamagedRound, RoundState, round_state};
use super::settings::changes_since;
use crate::stages::{Runner, StageError};

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
) -> Result<Vec<FinishedRound>, EvolutionError> {
    let mut done = Vec::new();
    let mut context = None;
    for number in 1..=round {
        let damaged = match round_state(runner.store, &pipeline.evolution, number)? {
            RoundState::Complete(finished) => {
                say_differences(pipeline, runner, number, &finished)?;
                write_round_view(runner.store, &pipeline.evolution, number, &finished.result)?;
                done.push(*finished);
                continue;
            }
            RoundState::Damaged(damaged) => Some(damaged),
            RoundState::Absent => None,
        };
        begun(number);
        if let Some(damaged) = damaged {
            let round = rebuild_damaged(pipeline, runner, number, *damaged, &done)?;
            done.push(round);
            continue;
        }
        if context.is_none() {
            context = Some(EvolutionContext::new(pipeline, runner, None)?);
        }
        if let Some(context) = &context {
            let round = round::run(context, number, &done, None)?;
            done.push(round);
        }
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
) -> Result<FinishedRound, EvolutionError> {
    let changed = damaged.settings.as_ref().map(|stored| changes_since(stored, pipeline)).unwrap_or_default();
    let keys: Vec<String> = changed.into_iter().map(|change| change.key).collect();
    if !keys.is_empty() {
        let problem = format!(
            "parts of round {round} are missing, and it was run with other values of {}; restore the pipeline file of that \
             round and rerun the command to recompute them, or start another --evolution",
            keys.join(", ")
        );
        return Err(EvolutionError::Changed { problem });
    }
    runner.progress.say(&format!("parts of round {round} are missing; recomputing them"));
    let context = EvolutionContext::new(pipeline, runner, damaged.images)?;
    round::run(&context, round, before, Some(damaged.action))
}

/// Prints the settings that have changed since a finished round, which stays as it is.
fn say_differences(
    pipeline: &Pipeline,
    runner: &Runner<'_>,
    round: u32,
    finished: &FinishedRound,
) -> Result<(), StageError> {
    let action = runner.store.action(finished.result.action)?;
    let stored = action.parameters.get(SETTINGS);
    let changed = stored.map(|stored| changes_since(stored, pipeline)).unwrap_or_default();
    let keys: Vec<String> = changed.into_iter().map(|change| change.key).collect();
    if !keys.is_empty() {
        let message = format!("round {round} was run with other values of {} and does not change", keys.join(", "));
        runner.progress.say(&format!("{message}; to use the new values, start another --evolution"));
    }
    Ok(())
}

/// Runs a round again on given inputs. Stored results are looked up, others are computed.
///
/// # Errors
/// See [`evolve_round`].
pub(super) fn replay_round(
    pipeline: &Pipeline,
    runner: &Runner<'_>,
    round: u32,
    pinned: PinnedInputs,
) -> Result<FinishedRound, EvolutionError> {
    let mut before = Vec::new();
    for number in 1..round {
        before.extend(finished_round(runner.store, &pipeline.evolution, number)?);
    }
    round::run(&EvolutionContext::from_pinned(pipeline, runner, pinned)?, round, &before, None)
}
