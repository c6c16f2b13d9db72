//! The cause of a diverging replay: the differences from the nearest stored action.

use super::super::Result;
use crate::store::{Action, ActionDifference, Store, StoreError};

/// Number of differences in a message.
const MAX_LISTED: usize = 3;

/// Returns the differences between an action and the nearest stored action of its stage; `None` if
/// the store has no action of the stage.
///
/// # Errors
/// The store cannot be read.
pub fn nearest_differences(store: &Store, requested: &Action) -> Result<Option<Vec<ActionDifference>>, StoreError> {
    let actions = store.results()?.into_iter().filter_map(|result| store.action(result.action).ok());
    let of_stage = actions.filter(|action| action.stage == requested.stage);
    Ok(of_stage.map(|action| action.differences(requested)).min_by_key(Vec::len))
}

/// Describes the differences between a requested action and the nearest stored one.
pub(super) fn describe_divergence(store: &Store, requested: &Action) -> Result<String> {
    let stage = &requested.stage;
    let Some(differences) = nearest_differences(store, requested)? else {
        return Ok(format!("the store has no result of the stage {stage}"));
    };
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    let listed: Vec<String> = differences
        .iter()
        .take(MAX_LISTED)
        .map(|d| format!("{} was {} and is {} now", d.key, shown(&d.before), shown(&d.after)))
        .collect();
    let more = differences.len().saturating_sub(MAX_LISTED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let hint = if differences.iter().any(|d| d.key.starts_with("inputs.items")) {
        " (a benchmark or labelled file has changed)"
    } else {
        ""
    };
    Ok(format!(
        "replay diverged: {stage} was requested with parameters that differ from the stored action: {}{more}{hint}",
        listed.join("; ")
    ))
}
