//! Why a replay goes another way than what it replays: the nearest action that is stored, and what differs from it.

use super::super::EvolutionError;
use crate::store::{Action, ActionDifference, Store, StoreError};

/// How many differences are named.
const NAMED: usize = 3;

/// What differs between an action and the nearest one of its stage that has a result; `None` where there is none.
///
/// # Errors
/// The store cannot be read.
pub fn nearest_differences(store: &Store, asked: &Action) -> Result<Option<Vec<ActionDifference>>, StoreError> {
    let mut nearest: Option<Vec<ActionDifference>> = None;
    for result in store.results()? {
        let action = match store.action(result.action) {
            Ok(action) if action.stage == asked.stage => action,
            _ => continue,
        };
        let differences = action.differences(asked);
        if nearest.as_ref().is_none_or(|nearest| differences.len() < nearest.len()) {
            nearest = Some(differences);
        }
    }
    Ok(nearest)
}

/// Says what differs between what is asked for and what is stored.
pub(super) fn divergence(store: &Store, asked: &Action) -> Result<String, EvolutionError> {
    let stage = &asked.stage;
    let Some(differences) = nearest_differences(store, asked)? else {
        return Ok(format!("the store has no result of the stage {stage}"));
    };
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    let named: Vec<String> = differences
        .iter()
        .take(NAMED)
        .map(|d| format!("{} was {} and is {} now", d.key, shown(&d.before), shown(&d.after)))
        .collect();
    let more = differences.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let hint = if differences.iter().any(|d| d.key.starts_with("inputs.items")) {
        " (a benchmark or labelled file is not what it was)"
    } else {
        ""
    };
    Ok(format!("{stage} is asked for otherwise than it was stored: {}{more}{hint}", named.join("; ")))
}
