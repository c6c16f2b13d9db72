//! Rounds one after the other: what is done is found, what is lost is made again, what is missing is run.

use super::EvolutionError;
use super::done::{Done, SETTINGS, done_round, show};
use super::found::{Broken, Found, find};
use super::ground::{Footing, Ground};
use super::pipeline::Pipeline;
use super::round;
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
) -> Result<Vec<Done>, EvolutionError> {
    let mut done = Vec::new();
    let mut ground = None;
    for number in 1..=round {
        let broken = match find(runner.store, &pipeline.evolution, number)? {
            Found::Whole(found) => {
                say_differences(pipeline, runner, number, &found)?;
                show(runner.store, &pipeline.evolution, number, &found.result)?;
                done.push(*found);
                continue;
            }
            Found::Broken(broken) => Some(broken),
            Found::Nothing => None,
        };
        begun(number);
        if let Some(broken) = broken {
            let round = mend(pipeline, runner, number, *broken, &done)?;
            done.push(round);
            continue;
        }
        if ground.is_none() {
            ground = Some(Ground::new(pipeline, runner, None)?);
        }
        if let Some(ground) = &ground {
            let round = round::run(ground, number, &done, None)?;
            done.push(round);
        }
    }
    Ok(done)
}

/// Makes what is lost of a round again. It must come out as it was: what later rounds and people built on is not replaced in silence.
fn mend(
    pipeline: &Pipeline,
    runner: &Runner<'_>,
    round: u32,
    broken: Broken,
    before: &[Done],
) -> Result<Done, EvolutionError> {
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
    let ground = Ground::new(pipeline, runner, broken.images)?;
    round::run(&ground, round, before, Some(broken.action))
}

/// Says so when a round was made with other settings than those of now: it stands as it was made.
fn say_differences(pipeline: &Pipeline, runner: &Runner<'_>, round: u32, found: &Done) -> Result<(), StageError> {
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
pub(super) fn run_again(
    pipeline: &Pipeline,
    runner: &Runner<'_>,
    round: u32,
    footing: Footing,
) -> Result<Done, EvolutionError> {
    let mut before = Vec::new();
    for number in 1..round {
        before.extend(done_round(runner.store, &pipeline.evolution, number)?);
    }
    round::run(&Ground::on(pipeline, runner, footing)?, round, &before, None)
}
