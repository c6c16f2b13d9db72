//! Rounds one after the other: what is done is found, what is lost is made again, what is missing is run.

use super::EvolutionError;
use super::context::{EvolutionContext, PinnedInputs};
use super::finished::{FinishedRound, SETTINGS, finished_round, show};
use super::pipeline::Pipeline;
use super::round;
use super::round_state::{DamagedRound, RoundState, find};
use super::settings::changes_since;
use crate::stages::{Runner, StageError};

/// Runs the rounds up to `round` that are not done yet, and gives what came of each, in order. `begun` hears of each round that
/// has to be run.
///
/// # Errors
/// A stage fails, a gate stops a round, or somebody asked to stop; what is done is kept.
pub fn evolve_round(
    pipeline: &Pipeline,
    runner: &Runner<'_>,
    round: u32,
    mut begun: impl FnMut(u32),
) -> Result<Vec<FinishedRound>, EvolutionError> {
    let mut done = Vec::new();
    let mut context = None;
    for number in 1..=round {
        let broken = match find(runner.store, &pipeline.evolution, number)? {
            RoundState::Complete(found) => {
                say_differences(pipeline, runner, number, &found)?;
                show(runner.store, &pipeline.evolution, number, &found.result)?;
                done.push(*found);
                continue;
            }
            RoundState::Damaged(broken) => Some(broken),
            RoundState::Absent => None,
        };
        begun(number);
        if let Some(broken) = broken {
            let round = rebuild_damaged(pipeline, runner, number, *broken, &done)?;
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

/// Makes what is lost of a round again. It must come out as it was: what later rounds and people built on is not replaced in silence.
fn rebuild_damaged(
    pipeline: &Pipeline,
    runner: &Runner<'_>,
    round: u32,
    broken: DamagedRound,
    before: &[FinishedRound],
) -> Result<FinishedRound, EvolutionError> {
    let changed = broken.settings.as_ref().map(|then| changes_since(then, pipeline)).unwrap_or_default();
    let keys: Vec<String> = changed.into_iter().map(|change| change.key).collect();
    if !keys.is_empty() {
        let problem = format!(
            "parts of round {round} are lost, and it was made with another {}; with the pipeline file as it was then, the same \
             command makes them again; another --evolution starts anew",
            keys.join(", ")
        );
        return Err(EvolutionError::Changed { problem });
    }
    runner.progress.say(&format!("parts of round {round} are lost; making them again"));
    let context = EvolutionContext::new(pipeline, runner, broken.images)?;
    round::run(&context, round, before, Some(broken.action))
}

/// Says so when a round was made with other settings than those of now: it stands as it was made.
fn say_differences(
    pipeline: &Pipeline,
    runner: &Runner<'_>,
    round: u32,
    found: &FinishedRound,
) -> Result<(), StageError> {
    let action = runner.store.action(found.result.action)?;
    let then = action.parameters.get(SETTINGS);
    let found = then.map(|then| changes_since(then, pipeline)).unwrap_or_default();
    let keys: Vec<String> = found.into_iter().map(|change| change.key).collect();
    if !keys.is_empty() {
        let message = format!("round {round} was made with another {}; it stays as it is", keys.join(", "));
        runner.progress.say(&format!("{message}, and another --evolution starts anew"));
    }
    Ok(())
}

/// Goes through a round again, on what is given. Whatever has its result is found; what has none is made.
///
/// # Errors
/// Those of [`evolve_round`].
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
