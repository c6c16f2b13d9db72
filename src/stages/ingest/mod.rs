//! Ingest: from folders of images and Parquet image datasets to the `images` table.
//!
//! | step | module | a function of |
//! |---|---|---|
//! | what is there | `scan` | the sources as they are now |
//! | what each blob is | `measure` | its bytes and the limits |
//! | which become images | `decide` (and `select`) | all entries, the measurements, what was decided before |
//! | the table | `pack`, `assemble` | the decisions and the bytes |
//!
//! Only the first step looks at names, times and paths. Ingesting again adds an increment with what is new; shards that
//! exist are never made again, and decisions once made stand.

mod decide;
mod fetch;
mod fingerprints;
mod increment;
mod measure;
mod pack;
mod preview;
mod replay;
mod rows;
mod scan;
mod select;

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;

use serde_json::Value;

use self::decide::{AssembleStage, DecideStage};
use self::fetch::Sources;
use self::increment::{History, Increment};
use self::measure::MeasureStage;
use self::pack::PackStage;
use self::scan::{Entry, Scan, ScanOptions};
use super::{Runner, StageError};
use crate::imaging::Limits;
use crate::store::{Output, Ref, RefUpdate, StageResult, Store};
use crate::tables::{self, TableRow};

pub use self::decide::INGEST;
pub use self::preview::{IngestPreview, preview};
pub use self::replay::replay_ingest;

/// The name of the ref to the table of images.
pub const IMAGES: &str = "images";

/// How often sources may change under the reading before ingest gives up.
const PATIENCE: usize = 5;

/// What decides which files become images and how they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestOptions {
    /// What a file and its image may be.
    pub limits: Limits,
    /// The largest Hamming distance of perceptual hashes (0 to 16 of 64 bits) at which images count as the same; `None`:
    /// only equal bytes do.
    pub near_duplicate_bits: Option<u32>,
    /// The most images of a shard.
    pub shard_rows: usize,
    /// A shard ends with the image that reaches this many bytes.
    pub shard_bytes: u64,
}

impl IngestOptions {
    fn selection_parameters(&self) -> BTreeMap<String, Value> {
        BTreeMap::from([("near_duplicate_bits".into(), Value::from(self.near_duplicate_bits))])
    }

    fn parameters(&self) -> BTreeMap<String, Value> {
        let mut all = self.selection_parameters();
        all.extend([
            ("max_bytes".into(), Value::from(self.limits.max_bytes)),
            ("max_pixels".into(), Value::from(self.limits.max_pixels)),
            ("max_aspect_ratio".into(), Value::from(self.limits.max_aspect_ratio)),
            ("shard_rows".into(), Value::from(self.shard_rows)),
            ("shard_bytes".into(), Value::from(self.shard_bytes)),
        ]);
        all
    }
}

/// What to ingest into which evolution.
#[derive(Debug, Clone)]
pub struct IngestRequest<'a> {
    /// The evolution whose `images` ref moves.
    pub evolution: &'a str,
    /// Folders, image files and Parquet files.
    pub sources: &'a [PathBuf],
    /// The image column of Parquet files; found when not given.
    pub column: Option<&'a str>,
    /// The options.
    pub options: &'a IngestOptions,
}

/// What came of an ingest.
#[derive(Debug)]
pub struct IngestSummary {
    /// The ref to the table of images as it is now.
    pub reference: Ref,
    /// The table.
    pub table: StageResult,
    /// Entries of the sources.
    pub entries: u64,
    /// Files whose bytes had to be read to know them.
    pub read: u64,
    /// Entries that were new.
    pub new: u64,
    /// Of the new ones, those that became images.
    pub new_images: u64,
    /// Of the new ones, those left out, by reason.
    pub new_rejects: BTreeMap<String, u64>,
    /// Shards that had to be made, those that were lost included.
    pub shards_made: usize,
    /// Of these, the ones that were lost.
    pub shards_mended: usize,
    /// Images of earlier ingests, under other options, that the table no longer has.
    pub left_behind: u64,
}

/// Ingests sources; see the module.
///
/// # Errors
/// A source that is not there, a store that cannot be written, or a wish to stop. Files that are no images are not errors but rows
/// of the `rejects` table.
pub fn ingest(request: &IngestRequest<'_>, runner: &Runner<'_>) -> Result<IngestSummary, StageError> {
    let mut patience = PATIENCE;
    loop {
        let scan = scan::scan(request.sources, scan_options(request), runner)?;
        let tried = ingest_scanned(request, &scan, runner);
        match tried {
            Err(StageError::SourceChanged { labels }) if patience > 0 => {
                patience -= 1;
                runner.progress.say(&format!("{} changed while it was read; looking again", labels.join(", ")));
            }
            Ok(None) => runner.progress.say("another process ingested meanwhile; adding to its table"),
            Ok(Some(ingested)) => return Ok(ingested),
            Err(e) => return Err(e),
        }
    }
}

fn scan_options<'a>(request: &IngestRequest<'a>) -> ScanOptions<'a> {
    ScanOptions { max_bytes: request.options.limits.max_bytes, column: request.column }
}

/// Ingests what a scan found; `None` when another process moved the ref first.
fn ingest_scanned(
    request: &IngestRequest<'_>,
    scan: &Scan,
    runner: &Runner<'_>,
) -> Result<Option<IngestSummary>, StageError> {
    let work = IngestAttempt { request, scan, runner };
    let history = History::read(runner.store, request.evolution, request.options)?;
    let (before, mended) = work.mend(&history)?;
    let new = before.new_entries(&scan.entries);
    if let (true, Some(table), Some(reference)) = (new.is_empty(), before.result(), history.refs.last()) {
        work.show(table)?;
        return Ok(Some(work.unchanged(table.clone(), reference.clone(), mended)));
    }
    let (table, decided, made) = work.append_increment(&before, &new)?;
    if runner.dry_run {
        let action = Box::new(runner.store.action(table.action)?);
        return Err(StageError::WouldRun { phase: "naming the table of images", missing: 1, shards: 1, action });
    }
    let advanced = runner.store.advance(request.evolution, IMAGES, history.head.as_ref(), table.action)?;
    let RefUpdate::Applied(reference) = advanced else { return Ok(None) };
    let figures = |(k, n): (&String, &u64)| Some((k.strip_prefix("rejected.")?.to_owned(), *n));
    let ingested = IngestSummary {
        reference,
        new: new.len() as u64,
        new_images: decided.counts.rows_out,
        new_rejects: decided.figures.iter().filter_map(figures).collect(),
        shards_made: mended + made,
        shards_mended: mended,
        entries: scan.entries.len() as u64,
        read: scan.read as u64,
        left_behind: history.left_behind,
        table,
    };
    work.show(&ingested.table)?;
    Ok(Some(ingested))
}

/// One try at ingesting what a scan found.
struct IngestAttempt<'a> {
    request: &'a IngestRequest<'a>,
    scan: &'a Scan,
    runner: &'a Runner<'a>,
}

impl IngestAttempt<'_> {
    /// The table of earlier increments, with whatever was lost of it made again. Also the number of shards that this took.
    fn mend(&self, history: &History) -> Result<(Increment, usize), StageError> {
        let store = self.runner.store;
        let mut shards = 0;
        let first_broken = self.first_broken(history)?;
        let Some(broken) = first_broken else {
            return match history.refs.last() {
                Some(head) => Ok((self.read_increment(head)?, 0)),
                None => Ok((Increment::default(), 0)),
            };
        };
        let mut before = match broken.checked_sub(1) {
            Some(last_whole) => self.read_increment(&history.refs[last_whole])?,
            None => Increment::default(),
        };
        for (i, r) in history.refs.iter().enumerate().skip(broken) {
            self.runner.progress.say(&format!("parts of {r} are gone; making them again"));
            let entries = increment::entries_of(store, &history.refs, i, &before, &self.scan.entries)?;
            let (table, _, made) = self.append_increment(&before, &entries)?;
            if table.action != r.result {
                return Err(StageError::Conflict(format!(
                    "parts of {r} are gone, and its sources are not what they were, so they cannot be made again; \
                     give all of its sources as they were, or start another evolution (--evolution)"
                )));
            }
            shards += made;
            before = Increment::read(store, table)?;
        }
        Ok((before, shards))
    }

    fn first_broken(&self, history: &History) -> Result<Option<usize>, StageError> {
        let mut before = None;
        for (i, r) in history.refs.iter().enumerate() {
            if !increment::is_whole(self.runner.store, r.result, before)? {
                return Ok(Some(i));
            }
            before = Some(r.result);
        }
        Ok(None)
    }

    fn read_increment(&self, r: &Ref) -> Result<Increment, StageError> {
        let missing = || StageError::Conflict(format!("the result of {r} is gone; run `visplay verify`"));
        Increment::read(self.runner.store, self.runner.store.result(r.result)?.ok_or_else(missing)?)
    }

    /// Makes the table that `entries` are added to. Also what was decided, and how many shards had to be made.
    fn append_increment(
        &self,
        before: &Increment,
        entries: &[Entry],
    ) -> Result<(StageResult, StageResult, usize), StageError> {
        let (runner, options) = (self.runner, self.request.options);
        let sources = Sources { origins: &self.scan.origins, max_bytes: options.limits.max_bytes };

        let mut met: HashSet<_> = before.blobs();
        let unmet = entries.iter().filter(|e| e.refusal.is_none() && e.blob.is_some_and(|blob| met.insert(blob)));
        let shards = measure::shards(runner.store, options, unmet)?;
        let measured = runner.run(&MeasureStage { options, sources: &sources }, &shards)?;

        let decide = DecideStage::new(runner.store, options, before, entries, &measured.results)?;
        let mut decided = runner.run(&decide, &[()])?;
        let made_deciding = decided.made;
        let decided = decided.results.remove(0);
        let rows = &decided.outputs[0];
        let decided_rows: Vec<tables::SourceRow> = read_table(runner.store, rows)?;

        let pack = PackStage { sources: &sources, decided: rows.object, selection: decided.action };
        let packed = runner.run(&pack, &pack::shards(options, &decided_rows))?;

        let assemble = AssembleStage { options, before, decided: &decided, packed: &packed.results };
        let mut table = runner.run(&assemble, &[()])?;
        let made = measured.made + made_deciding + packed.made + table.made;
        Ok((table.results.remove(0), decided, made))
    }

    fn unchanged(&self, table: StageResult, reference: Ref, mended: usize) -> IngestSummary {
        IngestSummary {
            reference,
            table,
            entries: self.scan.entries.len() as u64,
            read: self.scan.read as u64,
            new: 0,
            new_images: 0,
            new_rejects: BTreeMap::new(),
            shards_made: mended,
            shards_mended: mended,
            left_behind: 0,
        }
    }

    fn show(&self, table: &StageResult) -> Result<(), StageError> {
        show(self.runner.store, self.request.evolution, table)
    }
}

/// Lays out the files of a table of images for people, below `views/<evolution>/`.
///
/// # Errors
/// The store cannot be written to.
pub fn show(store: &Store, evolution: &str, table: &StageResult) -> Result<(), StageError> {
    for name in [tables::ImageRow::TABLE, tables::RejectRow::TABLE, tables::SourceRow::TABLE] {
        let objects: Vec<_> = table.outputs_of(name).map(|o| o.object).collect();
        store.write_view(&format!("{evolution}/{name}"), &objects)?;
    }
    Ok(())
}

/// Reads a table's object whole.
fn read_table<R: TableRow>(store: &Store, output: &Output) -> Result<Vec<R>, StageError> {
    let bytes = store.read_object(output.object)?;
    Ok(tables::read(output.object.name(), bytes::Bytes::from(bytes))?)
}

/// Cuts rows of given sizes into shards.
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
