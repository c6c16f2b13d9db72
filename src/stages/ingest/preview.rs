//! The preview of an ingest: its changes to the image table, reported without making them.

use super::decide::table_action;
use super::entry::Entry;
use super::increment::{History, Increment};
use super::unusable::{check_any_images, mistaken_texts};
use super::{IMAGES, IngestRequest, scan};
use crate::stages::{Result, Runner};
use crate::store::{Action, ActionDifference, Ref};

/// The difference between the newest image table and the one that an ingest would produce.
#[derive(Debug)]
pub struct IngestPreview {
    /// Ref of the newest table; `None` when there is none.
    pub last: Option<Ref>,
    /// Differences in the options.
    pub differences: Vec<ActionDifference>,
    /// Refs of tables whose parts are missing or damaged.
    pub damaged: Vec<Ref>,
    /// Labels of entries of the sources that the table does not have.
    pub new: Vec<String>,
}

/// Compares the options and the sources of a request with the newest table.
///
/// # Errors
/// Those of [`ingest`](super::ingest()).
pub fn preview(request: &IngestRequest<'_>, runner: &Runner<'_>) -> Result<IngestPreview> {
    let store = runner.store;
    let last = store.head(request.evolution, IMAGES)?;
    let last_action = last.as_ref().and_then(|last| store.action(last.result).ok());
    let compare = |action: Action| action.differences(&table_action(request.options, action.inputs.clone()));
    let differences = last_action.map(compare).unwrap_or_default();
    let history = History::read(store, request.evolution, request.options)?;
    let damaged = history.damaged(store).map(|i| Ok(history.refs[i?].clone())).collect::<Result<_>>()?;
    // An unreadable table is reported in `damaged`.
    let table = history.refs.last().and_then(|r| store.result(r.result).ok().flatten());
    let decided = table.and_then(|result| Increment::read(store, result).ok()).unwrap_or_default();
    let scan = scan::scan(request, runner)?;
    check_any_images(request, &scan)?;
    mistaken_texts(request, &scan).iter().for_each(|text| runner.progress.say(text));
    let new = decided.new_entries(&scan.entries).iter().map(Entry::display_name).collect();
    Ok(IngestPreview { last, differences, damaged, new })
}
