//! The replay of a stored image table, from the bytes and the listings in the store.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::entry::{Origin, Scan};
use super::increment::{Increment, read_listing};
use super::{IngestAttempt, IngestOptions, IngestRequest, decide, scan};
use crate::ids::Digest;
use crate::imaging::Limits;
use crate::stages::{Result, Runner, StageError, read_object};
use crate::store::{Action, StageResult, Store};
use crate::tables::{ImageRow, TableRow};

/// Recomputes the increments of an image table, oldest first, through `runner`; `stored` is the
/// store that has them. The bytes of images come from the table itself. A store does not keep the
/// bytes of rejected files, so these come from those `sources` that still exist. `scratch` is a
/// folder for temporary files.
///
/// # Errors
/// Bytes are not available, or a step fails.
pub fn replay_ingest(
    stored: &Store,
    table: &StageResult,
    sources: &[PathBuf],
    scratch: &Path,
    runner: &Runner<'_>,
) -> Result<()> {
    let options = read_options(&stored.action(table.action)?)?;
    let existing: Vec<PathBuf> = sources.iter().filter(|source| source.exists()).cloned().collect();
    let request = IngestRequest { evolution: "again", sources: &existing, column: None, options: &options };
    let existing_scan = scan::scan(&request, runner)?;
    let origins = collect_origins(stored, table, scratch, existing_scan.origins)?;
    let scan = Scan { origins, ..Scan::default() };
    let attempt = IngestAttempt { request: &request, scan: &scan, runner };
    let mut before = Increment::default();
    for table in list_increments(stored, table)? {
        let lost = || StageError::Lost(format!("the listing of the ingest {}", table.action));
        let entries = read_listing(stored, &table.upstream).ok_or_else(lost)?;
        attempt.append_increment(&before, &entries).map_err(name_missing_sources)?;
        before = Increment::read(stored, table)?;
    }
    Ok(())
}

/// Returns a table and those that it extends, oldest first.
fn list_increments(store: &Store, newest: &StageResult) -> Result<Vec<StageResult>> {
    let mut increments = Vec::new();
    let mut next = Some(newest.clone());
    while let Some(increment) = next.take() {
        for &key in &increment.upstream {
            if store.action(key)?.stage == decide::INGEST {
                next = store.result(key)?;
            }
        }
        increments.push(increment);
    }
    increments.reverse();
    Ok(increments)
}

/// Returns the location of every blob's bytes; those of images are written to files of `scratch`.
fn collect_origins(
    store: &Store,
    table: &StageResult,
    scratch: &Path,
    mut origins: HashMap<Digest, Origin>,
) -> Result<HashMap<Digest, Origin>> {
    let folder = scratch.join("blobs");
    std::fs::create_dir_all(&folder).map_err(StageError::read(&folder))?;
    for output in table.outputs_of(ImageRow::TABLE) {
        for row in read_object::<ImageRow>(store, output.object)? {
            let path = folder.join(row.image_id.to_string());
            std::fs::write(&path, &row.image.bytes).map_err(StageError::read(&path))?;
            origins.insert(row.image_id.0, Origin::File(path));
        }
    }
    Ok(origins)
}

fn name_missing_sources(e: StageError) -> StageError {
    match e {
        StageError::SourceChanged { labels } => {
            let label = labels.first().map_or("", String::as_str);
            let hint = "pass the folders that were ingested with --images";
            let problem = format!("the store does not keep the bytes of rejected files, such as {label}; {hint}");
            StageError::parameter("images", problem)
        }
        other => other,
    }
}

/// Returns the options that a table was made with.
fn read_options(action: &Action) -> Result<IngestOptions> {
    let number = |key: &'static str| {
        let value = action.parameters.get(key).and_then(serde_json::Value::as_u64);
        value.ok_or_else(|| StageError::missing_part("an action of ingest", key))
    };
    let bits = action.parameters.get("near_duplicate_bits").and_then(serde_json::Value::as_u64);
    Ok(IngestOptions {
        limits: Limits {
            max_bytes: number("max_bytes")?,
            max_pixels: number("max_pixels")?,
            max_aspect_ratio: u32::try_from(number("max_aspect_ratio")?).unwrap_or(u32::MAX),
        },
        near_duplicate_bits: bits.and_then(|bits| u32::try_from(bits).ok()),
        shard_rows: usize::try_from(number("shard_rows")?).unwrap_or(usize::MAX),
        shard_bytes: number("shard_bytes")?,
    })
}
