//! Rounds that were done: found by their refs, and looked through for what is lost of them.

use serde_json::Value;

use super::EvolutionError;
use super::finished::{FinishedRound, SETTINGS, read_report, readable, ref_name};
use crate::stages::ingest::INGEST;
use crate::store::{ActionKey, StageResult, Store};

/// What there is of a round.
pub(super) enum RoundState {
    /// It was never done.
    Absent,
    /// All of it.
    Complete(Box<FinishedRound>),
    /// It was done, and something is lost of it.
    Damaged(Box<DamagedRound>),
}

/// What is still known of a round of which something is lost.
pub(super) struct DamagedRound {
    /// The action of the round.
    pub(super) action: ActionKey,
    /// What the pipeline file said about it.
    pub(super) settings: Option<Value>,
    /// The table of images that it took its slice of; images that came later must not change it.
    pub(super) images: Option<StageResult>,
}

/// Looks for a round.
///
/// # Errors
/// A ref is damaged, or the store cannot be read.
pub(super) fn find(store: &Store, evolution: &str, round: u32) -> Result<RoundState, EvolutionError> {
    let Some(head) = store.head(evolution, &ref_name(round, "round"))? else { return Ok(RoundState::Absent) };
    if let Some(done) = whole(store, evolution, round, head.result)? {
        return Ok(RoundState::Complete(Box::new(done)));
    }
    let settings = readable(store.action(head.result))?.and_then(|action| action.parameters.get(SETTINGS).cloned());
    let mut images = None;
    for key in readable(store.result(head.result))?.flatten().map(|result| result.upstream).unwrap_or_default() {
        if readable(store.action(key))?.is_some_and(|action| action.stage == INGEST) {
            images = store.result_with_outputs(key)?;
        }
    }
    Ok(RoundState::Damaged(Box::new(DamagedRound { action: head.result, settings, images })))
}

/// The round, if every result that went into it is there.
fn whole(store: &Store, evolution: &str, round: u32, key: ActionKey) -> Result<Option<FinishedRound>, EvolutionError> {
    let Some(result) = store.result_with_inputs_and_outputs(key)? else { return Ok(None) };
    for part in ["questioner", "reasoner"] {
        match store.head(evolution, &ref_name(round, part))? {
            Some(head) if result.upstream.contains(&head.result) => {}
            _ => return Ok(None),
        }
    }
    for &part in &result.upstream {
        if store.result_with_inputs_and_outputs(part)?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(FinishedRound { report: read_report(store, &result)?, result, already_finished: true }))
}
