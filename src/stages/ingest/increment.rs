//! Increments of the image table: each ingest of new sources adds one and changes no earlier one.

use std::collections::HashSet;

use super::entry::Entry;
use super::{IMAGES, IngestOptions, decide};
use crate::ids::Digest;
use crate::stages::{Rejection, Result, read_object, read_rows};
use crate::store::{ActionKey, Output, Ref, StageResult, Store};
use crate::tables::{SourceRow, TableRow};

/// The image table after an increment; empty before the first.
#[derive(Debug, Default)]
pub(super) struct Increment {
    result: Option<StageResult>,
    /// All entries decided so far, in the order of increments.
    rows: Vec<SourceRow>,
}

impl Increment {
    /// Reads the decisions up to a result.
    pub(super) fn read(store: &Store, result: StageResult) -> Result<Self> {
        Ok(Self { rows: read_rows(store, std::slice::from_ref(&result))?, result: Some(result) })
    }

    pub(super) fn result(&self) -> Option<&StageResult> {
        self.result.as_ref()
    }

    pub(super) fn key(&self) -> Option<ActionKey> {
        self.result.as_ref().map(|r| r.action)
    }

    pub(super) fn rows(&self) -> &[SourceRow] {
        &self.rows
    }

    /// Returns the objects of a table.
    pub(super) fn outputs<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a Output> {
        self.result.iter().flat_map(move |result| result.outputs_of(table))
    }

    /// Returns the entries that are not decided yet.
    pub(super) fn new_entries(&self, entries: &[Entry]) -> Vec<Entry> {
        let known: HashSet<Identity<'_>> = self.rows.iter().map(row_identity).collect();
        entries.iter().filter(|e| !known.contains(&entry_identity(e))).cloned().collect()
    }

    /// Returns the blobs of all decided entries.
    pub(super) fn blobs(&self) -> HashSet<Digest> {
        self.rows.iter().filter_map(|r| Some(r.image_id?.0)).collect()
    }
}

/// The identity of an entry: its name, and its bytes or the reason why it is unreadable.
pub(super) type Identity<'a> = (&'a str, Option<u64>, Option<Digest>, &'a str);

/// Returns the identity of an entry.
pub(super) fn entry_identity(e: &Entry) -> Identity<'_> {
    let reason = e.rejection.as_ref().map_or("", |r| r.reason.as_ref());
    (&e.label, e.row, e.blob, if e.blob.is_some() { "" } else { reason })
}

/// Returns the identity of the entry of a decided row.
pub(super) fn row_identity(r: &SourceRow) -> Identity<'_> {
    let reason = r.reason.as_deref().unwrap_or_default();
    (&r.source, r.source_row, r.image_id.map(|id| id.0), if r.image_id.is_some() { "" } else { reason })
}

/// Returns the entry of a decided row.
fn entry_of(row: &SourceRow) -> Entry {
    let (reason, detail) = (row.reason.clone().unwrap_or_default(), row.detail.as_deref().unwrap_or_default());
    Entry {
        label: row.source.clone(),
        row: row.source_row,
        blob: row.image_id.map(|id| id.0),
        bytes: row.size,
        rejection: row.image_id.is_none().then(|| Rejection::new(reason, detail)),
    }
}

/// The increments of an evolution that were made with the current options, oldest first.
pub(super) struct History {
    /// The newest ref, made with any options.
    pub(super) head: Option<Ref>,
    /// The refs of the increments made with the current options.
    pub(super) refs: Vec<Ref>,
    /// Number of images in the last table made with other options.
    pub(super) left_behind: u64,
}

impl History {
    /// Reads the refs and finds the last change of the options.
    pub(super) fn read(store: &Store, evolution: &str, options: &IngestOptions) -> Result<Self> {
        let head = store.head(evolution, IMAGES)?;
        let mut refs: Vec<Ref> = Vec::new();
        let mut left_behind = 0;
        for r in store.restore_ref_sequence(evolution, IMAGES)? {
            // An action that is lost is assumed to be equal; if it was not, recomputing the
            // increment will reveal it.
            let same = store.action(r.result).map_or(true, |action| decide::is_made_by(&action, options));
            if !same {
                refs.clear();
                left_behind = store.result(r.result).ok().flatten().map_or(0, |result| result.rows_of("images"));
                continue;
            }
            // An increment that does not build on the one before it starts a new table.
            let builds_on = |before: &Ref| {
                store.result(r.result).ok().flatten().is_none_or(|result| result.upstream.contains(&before.result))
            };
            if refs.last().is_some_and(|before| !builds_on(before)) {
                refs.clear();
            }
            refs.push(r);
        }
        if !refs.is_empty() {
            left_behind = 0;
        }
        Ok(Self { head, refs, left_behind })
    }

    /// Returns the positions of the refs whose increments are incomplete.
    pub(super) fn damaged(&self, store: &Store) -> impl Iterator<Item = Result<usize>> {
        (0..self.refs.len()).filter_map(move |i| {
            let before = i.checked_sub(1).map(|before| self.refs[before].result);
            is_complete(store, self.refs[i].result, before).map(|complete| (!complete).then_some(i)).transpose()
        })
    }
}

/// Whether the store has an increment and everything that it was computed from.
fn is_complete(store: &Store, increment: ActionKey, before: Option<ActionKey>) -> Result<bool> {
    let mut queue = vec![increment];
    let mut seen = HashSet::new();
    while let Some(key) = queue.pop() {
        if Some(key) == before || !seen.insert(key) {
            continue;
        }
        let Some(result) = store.result_with_inputs_and_outputs(key)? else { return Ok(false) };
        queue.extend(result.upstream);
    }
    Ok(true)
}

/// Returns the entries of increment `i` of a chain in order to recompute it: those of its listing,
/// or of its own table, or, when both are lost, those of the sources that no other increment has.
pub(super) fn entries_to_recompute(
    store: &Store,
    refs: &[Ref],
    i: usize,
    before: &Increment,
    scanned: &[Entry],
) -> Result<Vec<Entry>> {
    let result = store.result(refs[i].result).ok().flatten();
    if let Some(entries) = result.and_then(|result| read_listing(store, &result.upstream)) {
        return Ok(entries);
    }
    if let Some(rows) = read_own_rows(store, refs, i) {
        let mut entries: Vec<Entry> = rows.iter().map(entry_of).collect();
        entries.sort();
        return Ok(entries);
    }
    let mut remaining = before.new_entries(scanned);
    for later in i + 1..refs.len() {
        let rows = read_own_rows(store, refs, later).unwrap_or_default();
        let theirs: HashSet<Identity<'_>> = rows.iter().map(row_identity).collect();
        remaining.retain(|e| !theirs.contains(&entry_identity(e)));
    }
    Ok(remaining)
}

/// Returns the entries of an increment that was computed from these results, from the listing that
/// its decision read.
pub(super) fn read_listing(store: &Store, upstream: &[ActionKey]) -> Option<Vec<Entry>> {
    let decision = upstream.iter().find_map(|key| store.action(*key).ok().filter(|a| a.stage == decide::DECIDE))?;
    let listing = decision.inputs.iter().find(|input| input.role == decide::LISTING)?;
    serde_json::from_slice(&store.read_object(listing.object).ok()?).ok()
}

/// Returns the rows that increment `i` itself decided. Each increment adds one `sources` object,
/// which every later result names too.
fn read_own_rows(store: &Store, refs: &[Ref], i: usize) -> Option<Vec<SourceRow>> {
    refs[i..].iter().find_map(|r| {
        let result = store.result(r.result).ok().flatten()?;
        let sources = result.outputs_of(SourceRow::TABLE).nth(i)?;
        read_object(store, sources.object).ok()
    })
}
