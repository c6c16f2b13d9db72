//! The `ingest` stages: turn folders of images, archives and Parquet image datasets into the
//! `images` table.
//!
//! | step | module | depends on |
//! |---|---|---|
//! | scan the sources | `scan` | the sources as they are now |
//! | measure each blob | `measure` | its bytes and the limits |
//! | select images | `decide` (and `select`) | all entries, the measurements, earlier decisions |
//! | write the table | `pack`, `decide` | the decisions and the bytes |
//!
//! Only the first step depends on names, times and paths. Ingesting again adds an increment with
//! the new entries; existing shards are not recomputed, and decisions are never revised.

mod archive;
mod container;
mod decide;
mod entry;
mod fetch;
mod file_kind;
mod fingerprints;
mod increment;
mod links;
mod measure;
mod pack;
mod parquet;
mod preview;
mod replay;
mod scan;
mod select;
mod unusable;
mod walk;

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use self::decide::{AssembleStage, DecideStage};
use self::entry::{Entry, Scan};
use self::fetch::Sources;
use self::increment::{History, Increment};
use self::measure::MeasureStage;
use self::pack::PackStage;
use self::unusable::{check_any_images, unusable_sources};
use super::listed_rows::put_listing;
use super::{Result, Runner, StageError, read_object};
use crate::ids::Digest;
use crate::imaging::{Limits, OPTIONAL_FORMATS};
use crate::store::{Ref, RefUpdate, StageResult, Store};
use crate::tables::{self, TableRow};

pub use self::decide::INGEST;
pub use self::preview::{IngestPreview, preview};
pub use self::replay::replay_ingest;
pub use self::unusable::UnusableSource;

/// Name of the ref to the image table.
pub const IMAGES: &str = "images";

/// Number of retries after sources changed while they were read.
const MAX_RETRIES: usize = 5;

/// Options that decide which files become images and how they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestOptions {
    /// Limits on a file and its image.
    pub limits: Limits,
    /// Maximum Hamming distance of the perceptual hashes of near duplicates (0 to 16 of 64 bits);
    /// `None`: only files with equal bytes are duplicates.
    pub near_duplicate_bits: Option<u32>,
    /// Maximum number of images of a shard.
    pub shard_rows: usize,
    /// Size in bytes at which a shard ends, with the image that reaches it.
    pub shard_bytes: u64,
}

impl IngestOptions {
    fn selection_parameters(&self) -> BTreeMap<String, Value> {
        BTreeMap::from([("near_duplicate_bits".into(), Value::from(self.near_duplicate_bits))])
    }

    /// Returns what measurements depend on besides the bytes. A build that reads more formats
    /// measures anew what another build rejected.
    fn measure_parameters(&self) -> BTreeMap<String, Value> {
        let mut parameters = BTreeMap::from([
            ("max_bytes".into(), Value::from(self.limits.max_bytes)),
            ("max_pixels".into(), Value::from(self.limits.max_pixels)),
            ("max_aspect_ratio".into(), Value::from(self.limits.max_aspect_ratio)),
        ]);
        if !OPTIONAL_FORMATS.is_empty() {
            parameters.insert("optional_formats".into(), Value::from(OPTIONAL_FORMATS.join(" ")));
        }
        parameters
    }

    fn parameters(&self) -> BTreeMap<String, Value> {
        let mut all = self.selection_parameters();
        all.extend(self.measure_parameters());
        all.extend([
            ("shard_rows".into(), Value::from(self.shard_rows)),
            ("shard_bytes".into(), Value::from(self.shard_bytes)),
        ]);
        all
    }
}

/// The sources to ingest, and the evolution to ingest them into.
#[derive(Debug, Clone)]
pub struct IngestRequest<'a> {
    /// Evolution whose `images` ref is advanced.
    pub evolution: &'a str,
    /// Folders, image files, Parquet files and archives.
    pub sources: &'a [PathBuf],
    /// Image column of Parquet files; detected when not given.
    pub column: Option<&'a str>,
    /// Options of the ingest.
    pub options: &'a IngestOptions,
}

/// The outcome of an ingest.
#[derive(Debug)]
pub struct IngestSummary {
    /// Ref that names the image table after the ingest.
    pub reference: Ref,
    /// The image table.
    pub table: StageResult,
    /// Number of entries of the sources.
    pub entries: u64,
    /// Number of files whose bytes had to be read.
    pub read: u64,
    /// Number of new entries.
    pub new: u64,
    /// Number of new entries that became images.
    pub new_images: u64,
    /// Number of new entries that were rejected, by reason.
    pub new_rejects: BTreeMap<String, u64>,
    /// Number of shards computed, including recomputed lost ones.
    pub shards_computed: usize,
    /// Number of lost shards that were recomputed.
    pub shards_rebuilt: usize,
    /// Number of images of earlier ingests, under other options, that the table no longer has.
    pub left_behind: u64,
    /// Sources that gave no usable image.
    pub unusable: Vec<UnusableSource>,
}

/// Ingests sources; see the module.
///
/// # Errors
/// A source does not exist, no source holds images, the store cannot be written to, or the command
/// is interrupted. A file that is not an image is not an error but a row of the `rejects` table.
pub fn ingest(request: &IngestRequest<'_>, runner: &Runner<'_>) -> Result<IngestSummary> {
    let mut retries = MAX_RETRIES;
    loop {
        let scan = scan::scan(request, runner)?;
        check_any_images(request, &scan)?;
        match ingest_scanned(request, &scan, runner) {
            Err(StageError::SourceChanged { labels }) if retries > 0 => {
                retries -= 1;
                let labels = labels.join(", ");
                runner.progress.say(&format!("{labels} changed while it was read; scanning the sources again"));
            }
            Ok(None) => runner.progress.say("another process has ingested at the same time; extending its table"),
            Ok(Some(ingested)) => return Ok(ingested),
            Err(e) => return Err(e),
        }
    }
}

/// Ingests scanned sources; `None` if another process advanced the ref first.
fn ingest_scanned(request: &IngestRequest<'_>, scan: &Scan, runner: &Runner<'_>) -> Result<Option<IngestSummary>> {
    let attempt = IngestAttempt { request, scan, runner };
    let history = History::read(runner.store, request.evolution, request.options)?;
    let (before, rebuilt) = attempt.rebuild_lost(&history)?;
    let new = before.new_entries(&scan.entries);
    if let (true, Some(table), Some(reference)) = (new.is_empty(), before.result(), history.refs.last()) {
        write_views(runner.store, request.evolution, table)?;
        let unusable = unusable_sources(request, scan, before.rows().iter());
        return Ok(Some(IngestSummary { unusable, ..attempt.summarize(table.clone(), reference.clone(), rebuilt) }));
    }
    let (table, decided, computed) = attempt.append_increment(&before, &new)?;
    if runner.dry_run {
        let action = Box::new(runner.store.action(table.action)?);
        return Err(StageError::WouldRun { phase: "publishing the image table", missing: 1, shards: 1, action });
    }
    let advanced = runner.store.advance(request.evolution, IMAGES, history.head.as_ref(), table.action)?;
    let RefUpdate::Applied(reference) = advanced else { return Ok(None) };
    let statistics = |(k, n): (&String, &u64)| Some((k.strip_prefix("rejected.")?.to_owned(), *n));
    write_views(runner.store, request.evolution, &table)?;
    let decided_rows: Vec<tables::SourceRow> = read_object(runner.store, decided.outputs[0].object)?;
    Ok(Some(IngestSummary {
        unusable: unusable_sources(request, scan, before.rows().iter().chain(&decided_rows)),
        new: new.len() as u64,
        new_images: decided.counts.rows_out,
        new_rejects: decided.statistics.iter().filter_map(statistics).collect(),
        shards_computed: rebuilt + computed,
        left_behind: history.left_behind,
        ..attempt.summarize(table, reference, rebuilt)
    }))
}

/// One attempt to ingest scanned sources.
struct IngestAttempt<'a> {
    request: &'a IngestRequest<'a>,
    scan: &'a Scan,
    runner: &'a Runner<'a>,
}

impl IngestAttempt<'_> {
    /// Returns the table of earlier increments, after recomputing its lost parts, and the number of
    /// shards that were recomputed.
    fn rebuild_lost(&self, history: &History) -> Result<(Increment, usize)> {
        let store = self.runner.store;
        let mut shards = 0;
        let damaged = history.damaged(store).next().transpose()?.unwrap_or(history.refs.len());
        let mut before = match damaged.checked_sub(1) {
            Some(last_complete) => {
                let r = &history.refs[last_complete];
                let missing = || StageError::Lost(format!("the result of {r}"));
                Increment::read(store, store.result(r.result)?.ok_or_else(missing)?)?
            }
            None => Increment::default(),
        };
        for (i, r) in history.refs.iter().enumerate().skip(damaged) {
            self.runner.progress.say(&format!("parts of {r} are lost; recomputing them"));
            let entries = increment::entries_to_recompute(store, &history.refs, i, &before, &self.scan.entries)?;
            let (table, _, computed) = self.append_increment(&before, &entries)?;
            if table.action != r.result {
                return Err(StageError::SourcesDiffer { table: r.to_string() });
            }
            shards += computed;
            before = Increment::read(store, table)?;
        }
        Ok((before, shards))
    }

    /// Extends the table with `entries`. Returns the new table, the result that holds the
    /// decisions, and the number of shards computed.
    fn append_increment(&self, before: &Increment, entries: &[Entry]) -> Result<(StageResult, StageResult, usize)> {
        let (runner, options) = (self.runner, self.request.options);
        let sources = Sources { origins: &self.scan.origins, max_bytes: options.limits.max_bytes };

        let mut known: HashSet<_> = before.blobs();
        let new = entries.iter().filter(|e| e.rejection.is_none() && e.blob.is_some_and(|blob| known.insert(blob)));
        let shards = measure::shards(runner.store, options, new)?;
        let dark = Mutex::default();
        let measured = runner.run(&MeasureStage { options, sources: &sources, reduced_to_dark: &dark }, &shards)?;
        self.warn_of_dark_images(entries, &dark.into_inner().unwrap_or_else(PoisonError::into_inner));

        let listing = put_listing(runner.store, entries)?;
        let decide = DecideStage { options, before, entries, listing, measured: &measured.results };
        let mut decided = runner.run(&decide, &[()])?;
        let decided_shards = decided.computed;
        let decided = decided.results.remove(0);
        let rows = &decided.outputs[0];
        let decided_rows: Vec<tables::SourceRow> = read_object(runner.store, rows.object)?;

        let pack = PackStage { sources: &sources, decided: rows.object, selection: decided.action };
        let packed = runner.run(&pack, &pack::shards(options, &decided_rows))?;

        let assemble = AssembleStage { options, before, decided: &decided, packed: &packed.results };
        let mut table = runner.run(&assemble, &[()])?;
        let computed = measured.computed + decided_shards + packed.computed + table.computed;
        Ok((table.results.remove(0), decided, computed))
    }

    /// Warns of images of more than 8 bits a sample that come out nearly black, in the order of the
    /// entries.
    fn warn_of_dark_images(&self, entries: &[Entry], dark: &HashSet<Digest>) {
        let mut named = entries.iter().filter(|entry| entry.blob.is_some_and(|blob| dark.contains(&blob)));
        if let Some(first) = named.next() {
            self.runner.progress.say(&format!(
                "warning: {} images of more than 8 bits a sample are nearly black, the first is {}: only the high \
                 byte of a sample is kept, and samples of 12 or 14 bits have little there; this evolution keeps them \
                 as they are: stretch the files to 16 bits and ingest them into a new evolution, for example: \
                 magick FILE -auto-level FILE.png",
                1 + named.count(),
                first.display_name()
            ));
        }
    }

    /// Returns the summary of an ingest without new entries.
    fn summarize(&self, table: StageResult, reference: Ref, rebuilt: usize) -> IngestSummary {
        IngestSummary {
            reference,
            table,
            entries: self.scan.entries.len() as u64,
            read: self.scan.read as u64,
            new: 0,
            new_images: 0,
            new_rejects: BTreeMap::new(),
            shards_computed: rebuilt,
            shards_rebuilt: rebuilt,
            left_behind: 0,
            unusable: Vec::new(),
        }
    }
}

/// Links the files of an image table below `views/<evolution>/`, where people can read them.
///
/// # Errors
/// The store cannot be written to.
pub fn write_views(store: &Store, evolution: &str, table: &StageResult) -> Result<()> {
    for name in [tables::ImageRow::TABLE, tables::RejectRow::TABLE, tables::SourceRow::TABLE] {
        let objects: Vec<_> = table.outputs_of(name).map(|o| o.object).collect();
        store.write_view(&format!("{evolution}/{name}"), &objects)?;
    }
    Ok(())
}

/// Splits rows of given sizes into shards.
fn shard_ranges(options: &IngestOptions, sizes: impl Iterator<Item = u64>) -> Vec<Range<usize>> {
    let (mut ranges, mut start, mut bytes, mut end) = (Vec::new(), 0, 0, 0);
    for size in sizes {
        end += 1;
        bytes += size;
        if end - start >= options.shard_rows.max(1) || bytes >= options.shard_bytes {
            ranges.push(start..end);
            (start, bytes) = (end, 0);
        }
    }
    if end > start {
        ranges.push(start..end);
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_all_rows_once_and_in_order() {
        let options = IngestOptions {
            limits: Limits { max_bytes: 1, max_pixels: 1, max_aspect_ratio: 1 },
            near_duplicate_bits: None,
            shard_rows: 3,
            shard_bytes: 10,
        };
        assert!(shard_ranges(&options, std::iter::empty()).is_empty());
        assert_eq!(shard_ranges(&options, [1; 7].into_iter()), vec![0..3, 3..6, 6..7]);
        assert_eq!(shard_ranges(&options, [4, 6, 20, 1].into_iter()), vec![0..2, 2..3, 3..4]);
    }
}
