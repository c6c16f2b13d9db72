//! The scan of Parquet files for images, in the layouts of Hugging Face datasets.

use std::iter::Peekable;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::entry::{CellPosition, Entry, Origin, Scanner};
use super::fingerprints::Fingerprint;
use crate::ids::Digest;
use crate::stages::{Rejection, Result, StageError};
use crate::store::StoreError;
use crate::tables::TableError;
use crate::tables::import::{ImportError, ImportFile, ImportLimits, ImportRows, ImportedBytes, ImportedImage};

/// Maximum size of a page of a Parquet file; each thread may hold one page in memory.
const PAGE_BYTES: usize = 128 << 20;

/// Version of the cache entry of a file; raise it when the reader may return other images.
const CACHE_VERSION: u32 = 2;

/// An image of a file, before it is decoded.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cell {
    #[serde(rename = "place")]
    position: CellPosition,
    blob: Option<Digest>,
    bytes: u64,
    #[serde(rename = "refusal")]
    rejection: Option<Rejection>,
}

/// The images of a file, and the reason why the rest could not be read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct FileCells {
    cells: Vec<Cell>,
    failure: Option<Rejection>,
}

/// A Parquet file among the sources.
#[derive(Clone, Copy)]
pub(super) struct ParquetFile<'a> {
    pub(super) path: &'a Path,
    pub(super) label: &'a str,
    /// Digest of its bytes.
    pub(super) digest: Digest,
    /// Fingerprint of the file when its bytes were read.
    pub(super) state: Option<Fingerprint>,
}

impl ParquetFile<'_> {
    /// Returns an error if the file has changed since its digest was computed.
    fn check_unchanged(&self) -> Result<()> {
        let now = self.path.metadata().ok().map(|meta| Fingerprint::of(&meta));
        if now.is_some() && now == self.state {
            return Ok(());
        }
        Err(StageError::SourceChanged { labels: vec![self.path.display().to_string()] })
    }
}

impl Scanner<'_> {
    /// Adds the images of a Parquet file. `named_by_user`: whether the user named the file itself,
    /// not only a folder that contains it.
    ///
    /// # Errors
    /// The user named the file itself and it has no usable image column; such a file in a folder is
    /// rejected instead.
    pub(super) fn scan_rows(&mut self, file: ParquetFile<'_>, named_by_user: bool) -> Result<()> {
        let ParquetFile { path, label, digest, .. } = file;
        let cells = match self.cached_cells(digest)? {
            Some(cells) => cells,
            None => match self.read_file(path) {
                Ok(cells) => {
                    file.check_unchanged()?;
                    self.cache_cells(&cells, digest);
                    cells
                }
                Err(StageError::Source { problem, .. }) if !named_by_user => {
                    FileCells { cells: Vec::new(), failure: Some(Rejection::new("no_image_column", &problem)) }
                }
                Err(e) => return Err(e),
            },
        };
        for Cell { position, blob, bytes, rejection } in cells.cells {
            let label = position.item.map_or_else(|| label.to_owned(), |item| format!("{label}#{item}"));
            let entry = Entry { label, row: Some(position.row), blob, bytes, rejection };
            let column = self.request.column.map(str::to_owned);
            self.scan.push(entry, Some(Origin::Cell { file: path.to_owned(), column, position }));
        }
        if let Some(failure) = cells.failure {
            let bytes = path.metadata().map_or(0, |m| m.len());
            self.scan.push(Entry::rejected(label.to_owned(), bytes, failure), None);
        }
        Ok(())
    }

    fn read_file(&self, file: &Path) -> Result<FileCells> {
        let images = match ImportFile::open(file, self.request.column, import_limits(self.max_bytes())) {
            Ok(images) => images,
            Err(e) if is_about_columns(&e) => return Err(StageError::source(file, text_without_path(file, &e))),
            Err(e) => return Ok(FileCells { cells: Vec::new(), failure: Some(file_rejection(file, &e)) }),
        };
        self.runner.progress.begin("reading Parquet rows", images.row_count());
        let mut cells = FileCells::default();
        for image in images.rows() {
            self.runner.interrupt.check()?;
            match image {
                Ok(image) => cells.cells.push(to_cell(image)),
                Err(e) => cells.failure = Some(file_rejection(file, &e)),
            }
            self.runner.progress.advance(1);
        }
        self.runner.progress.end();
        Ok(cells)
    }

    /// Returns the cache key of a file's images, from its bytes, the column and the limits.
    fn cache_key(&self, digest: Digest) -> Digest {
        let column = self.request.column.map_or_else(|| vec![0], |c| [&[1], c.as_bytes()].concat());
        let max_bytes = self.max_bytes().to_le_bytes();
        let reader = [CACHE_VERSION.to_le_bytes(), (PAGE_BYTES as u32).to_le_bytes()].concat();
        Digest::derive("visplay 2026-11 cells of a Parquet file", &[digest.as_bytes(), &column, &max_bytes, &reader])
    }

    fn cached_cells(&self, digest: Digest) -> Result<Option<FileCells>> {
        let entry = self.runner.store.read_cache(self.cache_key(digest))?;
        Ok(entry.and_then(|entry| serde_json::from_slice(&entry).ok()))
    }

    /// Caches the images of a file, unless it could not be opened, which may change.
    fn cache_cells(&self, cells: &FileCells, digest: Digest) {
        if cells.failure.as_ref().is_some_and(|f| f.reason == "unreadable") {
            return;
        }
        let entry = crate::canonical::to_canonical(cells).map_err(StoreError::from);
        if let Err(e) = entry.and_then(|entry| self.runner.store.write_cache(self.cache_key(digest), &entry)) {
            let problem = "cannot cache the rows of a Parquet file, so they will be read again next time";
            self.runner.progress.say(&format!("{problem}: {e}"));
        }
    }
}

fn import_limits(max_bytes: u64) -> ImportLimits {
    let image_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    ImportLimits { image_bytes, page_bytes: PAGE_BYTES }
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

/// Returns the reason why a file, or the rest of it, gives no images.
fn file_rejection(file: &Path, e: &ImportError) -> Rejection {
    let reason = match e {
        ImportError::File(TableError::Open { .. }) => "unreadable",
        ImportError::LargePage { .. } => "too_large",
        _ => "corrupt",
    };
    Rejection::new(reason, text_without_path(file, e))
}

/// Returns the text of an error without the path of the file, which the rejected row or the outer
/// error names.
fn text_without_path(file: &Path, e: &ImportError) -> String {
    let text = e.to_string();
    text.strip_prefix(&format!("{}: ", file.display())).unwrap_or(&text).to_owned()
}

fn to_cell(image: ImportedImage) -> Cell {
    let rejected = |reason, detail| Some(Rejection::new(reason, detail));
    let (blob, bytes, rejection) = match &image.bytes {
        ImportedBytes::Bytes(bytes) => (Some(Digest::of(bytes)), bytes.len(), None),
        ImportedBytes::Null => (None, 0, rejected("empty", "the row has no image".to_owned())),
        ImportedBytes::TooLarge(n) => (None, *n, rejected("too_large", format!("{n} bytes, more than max_bytes"))),
    };
    Cell { position: position_of(&image), blob, bytes: bytes as u64, rejection }
}

/// Reads cells of Parquet files. Reads in ascending order of position pass over a file only once.
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

    /// Returns the bytes at a position; `None` if the source has changed and no longer has them.
    pub(super) fn read(&mut self, path: &Path, column: Option<&str>, position: CellPosition) -> Option<Vec<u8>> {
        let is_behind = |open: &mut OpenFile| {
            open.path == path && matches!(open.images.peek(), Some(Ok(next)) if position_of(next) <= position)
        };
        if !self.open.as_mut().is_some_and(is_behind) {
            let images =
                ImportFile::open(path, column, import_limits(self.max_bytes)).ok()?.rows_in(position.row..u64::MAX);
            self.open = Some(OpenFile { path: path.to_owned(), images: images.peekable() });
        }
        let open = self.open.as_mut()?;
        while let Some(image) = open.images.next_if(|image| image.as_ref().is_ok_and(|i| position_of(i) <= position)) {
            let image = image.ok()?;
            if position_of(&image) == position {
                return if let ImportedBytes::Bytes(bytes) = image.bytes { Some(bytes) } else { None };
            }
        }
        None
    }
}

fn position_of(image: &ImportedImage) -> CellPosition {
    CellPosition { row: image.row, item: image.item }
}
