//! Sources of an ingest that gave no usable image.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::IngestRequest;
use super::entry::Scan;
use super::increment::{entry_identity, row_identity};
use crate::stages::{Result, StageError};
use crate::tables::SourceRow;

/// A source without a usable image.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct UnusableSource {
    /// Path of the source as given.
    pub source: PathBuf,
    /// The thing that it holds instead of images, and what to do. Such a source is not read.
    pub problem: Option<String>,
    /// Number of its files, rows and members, by the reason why they were rejected.
    pub rejects: BTreeMap<String, u64>,
}

/// Returns the sources of which no entry is an image, in the order of the request. A duplicate of
/// an image is usable too.
pub(super) fn unusable_sources<'a>(
    request: &IngestRequest<'_>,
    scan: &Scan,
    decided: impl Iterator<Item = &'a SourceRow>,
) -> Vec<UnusableSource> {
    let mut reasons: HashMap<_, Option<&str>> = HashMap::new();
    for row in decided {
        let reason = row.reason.as_deref().filter(|reason| !matches!(*reason, "duplicate" | "near_duplicate"));
        let known = reasons.entry(row_identity(row)).or_insert(reason);
        *known = known.and(reason);
    }
    let mut rejects: Vec<Option<BTreeMap<String, u64>>> = vec![Some(BTreeMap::new()); request.sources.len()];
    for (entry, &source) in scan.entries.iter().zip(&scan.source_of) {
        match (reasons.get(&entry_identity(entry)), &mut rejects[source]) {
            (Some(Some(reason)), Some(counts)) => *counts.entry((*reason).to_owned()).or_insert(0) += 1,
            (Some(None), usable) => *usable = None,
            _ => {}
        }
    }
    let mut unusable = Vec::new();
    for (number, (source, rejects)) in request.sources.iter().zip(rejects).enumerate() {
        if let Some(rejects) = rejects {
            let problem = scan.mistaken.get(&number).cloned();
            unusable.push(UnusableSource { source: source.clone(), problem, rejects });
        }
    }
    unusable
}

/// Returns an error if every source holds something else than images, so that nothing is left to
/// ingest.
pub(super) fn check_any_images(request: &IngestRequest<'_>, scan: &Scan) -> Result<()> {
    if scan.mistaken.is_empty() || scan.mistaken.len() < request.sources.len() {
        return Ok(());
    }
    Err(StageError::NoImage(mistaken_texts(request, scan).join("\n")))
}

/// Returns a message about each source that holds something else than images.
pub(super) fn mistaken_texts(request: &IngestRequest<'_>, scan: &Scan) -> Vec<String> {
    let sources = request.sources.iter().enumerate();
    let mistaken = sources.filter_map(|(number, source)| Some((source, scan.mistaken.get(&number)?)));
    mistaken.map(|(source, problem)| format!("{}: no usable image: {problem}", source.display())).collect()
}
