//! The state of a round in the store: absent, complete or damaged.

use serde_json::Value;

use super::Result;
use super::finished::{FinishedRound, SETTINGS, none_if_damaged, read_report, ref_name};
use crate::stages::ingest::INGEST;
use crate::store::{ActionKey, StageResult, Store};

/// The state of a round in the store.
pub(super) enum RoundState {
    /// The round was never finished.
    Absent,
    /// The round is finished and all of its results are there.
    Complete(Box<FinishedRound>),
    /// The round was finished, and parts of it are missing or damaged.
    Damaged(Box<DamagedRound>),
}

/// The remaining information about a damaged round.
pub(super) struct DamagedRound {
    /// The action of the round.
    pub(super) action: ActionKey,
    /// Its settings.
    pub(super) settings: Option<Value>,
    /// The images table that its slice was taken from. Images added later must not change it.
    pub(super) images: Option<StageResult>,
}

/// Reads the state of a round.
pub(super) fn round_state(store: &Store, evolution: &str, round: u32) -> Result<RoundState> {
    let Some(head) = store.head(evolution, &ref_name(round, "round"))? else { return Ok(RoundState::Absent) };
    if let Some(done) = complete_round(store, evolution, round, head.result)? {
        return Ok(RoundState::Complete(Box::new(done)));
    }
    let settings =
        none_if_damaged(store.action(head.result))?.and_then(|action| action.parameters.get(SETTINGS).cloned());
    let mut images = None;
    for key in none_if_damaged(store.result(head.result))?.flatten().map(|result| result.upstream).unwrap_or_default() {
        if none_if_damaged(store.action(key))?.is_some_and(|action| action.stage == INGEST) {
            images = store.result_with_outputs(key)?;
        }
    }
    Ok(RoundState::Damaged(Box::new(DamagedRound { action: head.result, settings, images })))
}

/// Returns the round if every result that went into it is there.
fn complete_round(store: &Store, evolution: &str, round: u32, key: ActionKey) -> Result<Option<FinishedRound>> {
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
