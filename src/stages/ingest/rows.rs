//! Rows: the images inside Parquet files, as Hugging Face datasets have them.

use std::iter::Peekable;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fingerprints::Fingerprint;
use super::scan::{Entry, Origin, Refusal, Scan, ScanOptions, refusal};
use crate::ids::Digest;
use crate::stages::{Runner, StageError};
use crate::store::StoreError;
use crate::tables::import::{ImportError, ImportFile, ImportLimits, ImportRows, ImportedBytes, ImportedImage};

/// The largest page of a Parquet file that is read: each thread may hold one, whole.
const PAGE_BYTES: usize = 128 << 20;

/// Version of what is noted of a file: another reader may find other images.
const NOTE_VERSION: u32 = 2;

/// Where an image lies within its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct CellPosition {
    /// The row, from 0.
    pub(super) row: u64,
    /// The place within the row's list of images, from 0; `None` where a row has one image.
    pub(super) item: Option<usize>,
}

/// An image of a file, as far as its bytes say.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cell {
    place: CellPosition,
    blob: Option<Digest>,
    bytes: u64,
    refusal: Option<Refusal>,
}

/// What a file holds: its images, and what kept the rest from being read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct FileCells {
    cells: Vec<Cell>,
    failure: Option<Refusal>,
}

/// A Parquet file that the scan met.
#[derive(Clone, Copy)]
pub(super) struct ParquetFile<'a> {
    pub(super) path: &'a Path,
    pub(super) label: &'a str,
    /// The digest of its bytes.
    pub(super) digest: Digest,
    /// Its state when they were read.
    pub(super) state: Option<Fingerprint>,
}

impl ParquetFile<'_> {
    /// What is read of the file now must be of the bytes that its digest was taken of.
    fn check_unchanged(&self) -> Result<(), StageError> {
        let now = self.path.metadata().ok().map(|meta| Fingerprint::of(&meta));
        if now.is_some() && now == self.state {
            return Ok(());
        }
        Err(StageError::SourceChanged { labels: vec![self.path.display().to_string()] })
    }
}

/// Adds the images of a Parquet file to a scan. `alone` is whether the user named the file itself.
///
/// # Errors
/// A file named by the user that has no usable image column; a file met in a folder is a reject instead.
pub(super) fn scan_rows(
    file: ParquetFile<'_>,
    options: ScanOptions<'_>,
    alone: bool,
    runner: &Runner<'_>,
    scan: &mut Scan,
) -> Result<(), StageError> {
    let ParquetFile { path, label, digest, .. } = file;
    let found = match known_cells(digest, options, runner)? {
        Some(found) => found,
        None => match read_file(path, options, runner) {
            Ok(found) => {
                file.check_unchanged()?;
                remember(&found, digest, options, runner);
                found
            }
            Err(StageError::Source { problem, .. }) if !alone => {
                FileCells { cells: Vec::new(), failure: Some(refusal("no_image_column", &problem)) }
            }
            Err(e) => return Err(e),
        },
    };
    for cell in found.cells {
        let label = cell.place.item.map_or_else(|| label.to_owned(), |item| format!("{label}#{item}"));
        let place = cell.place;
        let entry = Entry { label, row: Some(place.row), blob: cell.blob, bytes: cell.bytes, refusal: cell.refusal };
        let column = options.column.map(str::to_owned);
        scan.push_row(entry, Origin::Cell { file: path.to_owned(), column, place });
    }
    if let Some(failure) = found.failure {
        let bytes = path.metadata().map_or(0, |m| m.len());
        scan.push_refused(Entry { label: label.to_owned(), row: None, blob: None, bytes, refusal: Some(failure) });
    }
    Ok(())
}

fn limits(max_bytes: u64) -> ImportLimits {
    let image_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    ImportLimits { image_bytes, page_bytes: PAGE_BYTES }
}

fn read_file(file: &Path, options: ScanOptions<'_>, runner: &Runner<'_>) -> Result<FileCells, StageError> {
    let images = match ImportFile::open(file, options.column, limits(options.max_bytes)) {
        Ok(images) => images,
        Err(e) if is_about_columns(&e) => {
            let problem = e.to_string();
            let own_name = format!("{}: ", file.display());
            let problem = problem.strip_prefix(&own_name).unwrap_or(&problem).to_owned();
            return Err(StageError::Source { path: file.to_owned(), problem });
        }
        Err(e) => return Ok(FileCells { cells: Vec::new(), failure: Some(failure(file, &e)) }),
    };
    runner.progress.begin("reading Parquet rows", images.row_count());
    let mut found = FileCells::default();
    for image in images.rows() {
        runner.interrupt.check()?;
        match image {
            Ok(image) => found.cells.push(cell(image)),
            Err(e) => found.failure = Some(failure(file, &e)),
        }
        runner.progress.advance(1);
    }
    runner.progress.end();
    Ok(found)
}

fn is_about_columns(e: &ImportError) -> bool {
    matches!(
        e,
        ImportError::NoColumn { .. }
            | ImportError::Ambiguous { .. }
            | ImportError::UnknownColumn { .. }
            | ImportError::NotImages { .. }
    )
}

/// Why a file, or the rest of it, gives no images. The host's path stays out: the reject names the file.
fn failure(file: &Path, e: &ImportError) -> Refusal {
    let reason = match e {
        ImportError::Open { .. } => "unreadable",
        ImportError::LargePage { .. } => "too_large",
        _ => "corrupt",
    };
    let text = e.to_string();
    let own_name = format!("{}: ", file.display());
    refusal(reason, text.strip_prefix(&own_name).unwrap_or(&text))
}

fn cell(image: ImportedImage) -> Cell {
    let place = CellPosition { row: image.row, item: image.item };
    match image.bytes {
        ImportedBytes::Bytes(bytes) => {
            Cell { place, blob: Some(Digest::of(&bytes)), bytes: bytes.len() as u64, refusal: None }
        }
        ImportedBytes::Null => {
            Cell { place, blob: None, bytes: 0, refusal: Some(refusal("empty", "the row has no image")) }
        }
        ImportedBytes::TooLarge(n) => {
            let why = refusal("too_large", &format!("{n} bytes, more than max_bytes"));
            Cell { place, blob: None, bytes: n as u64, refusal: Some(why) }
        }
    }
}

/// The note on what a file holds: a function of its bytes, the column and the limit.
fn note_key(digest: Digest, options: ScanOptions<'_>) -> Digest {
    let column = options.column.map_or_else(|| vec![0], |c| [&[1], c.as_bytes()].concat());
    let max_bytes = options.max_bytes.to_le_bytes();
    let reader = [NOTE_VERSION.to_le_bytes(), (PAGE_BYTES as u32).to_le_bytes()].concat();
    Digest::derive("visplay 2026-11 cells of a Parquet file", &[digest.as_bytes(), &column, &max_bytes, &reader])
}

fn known_cells(digest: Digest, options: ScanOptions<'_>, runner: &Runner<'_>) -> Result<Option<FileCells>, StageError> {
    let note = runner.store.read_cache(note_key(digest, options))?;
    Ok(note.and_then(|note| serde_json::from_slice(&note).ok()))
}

/// Notes what a file holds, if that is a function of its bytes: a file that could not be opened may be opened next time.
fn remember(found: &FileCells, digest: Digest, options: ScanOptions<'_>, runner: &Runner<'_>) {
    if found.failure.as_ref().is_some_and(|f| f.reason == "unreadable") {
        return;
    }
    let note = crate::canonical::to_canonical(found).map_err(StoreError::from);
    if let Err(e) = note.and_then(|note| runner.store.write_cache(note_key(digest, options), &note)) {
        runner.progress.say(&format!("the rows will be read again next time: {e}"));
    }
}

/// Reads cells of Parquet files one after the other. As long as the places asked for lie behind each other in one file, that file
/// is read once.
pub(super) struct CellReader {
    max_bytes: u64,
    open: Option<OpenFile>,
}

/// A file that is being read.
struct OpenFile {
    path: PathBuf,
    images: Peekable<ImportRows>,
}

impl CellReader {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, open: None }
    }

    /// The bytes at a place; `None` when they are not there (any more): whoever needs them sees that the source has changed.
    pub(super) fn read(&mut self, path: &Path, column: Option<&str>, place: CellPosition) -> Option<Vec<u8>> {
        let is_behind = |open: &mut OpenFile| {
            open.path == path && matches!(open.images.peek(), Some(Ok(next)) if place_of(next) <= place)
        };
        if !self.open.as_mut().is_some_and(is_behind) {
            let images = ImportFile::open(path, column, limits(self.max_bytes)).ok()?.rows_in(place.row..u64::MAX);
            self.open = Some(OpenFile { path: path.to_owned(), images: images.peekable() });
        }
        let open = self.open.as_mut()?;
        while let Some(image) = open.images.next_if(|image| image.as_ref().is_ok_and(|i| place_of(i) <= place)) {
            let image = image.ok()?;
            if place_of(&image) == place {
                return if let ImportedBytes::Bytes(bytes) = image.bytes { Some(bytes) } else { None };
            }
        }
        None
    }
}

fn place_of(image: &ImportedImage) -> CellPosition {
    CellPosition { row: image.row, item: image.item }
}
