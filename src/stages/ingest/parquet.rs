//! The scan of Parquet files for images, in the layouts of Hugging Face datasets.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::container::ContainerFile;
use super::entry::{CellPosition, Entry, Origin, Scanner};
use super::links::LinkedFile;
use crate::ids::Digest;
use crate::stages::{Rejection, Result, StageError};
use crate::tables::TableError;
use crate::tables::import::{ImportError, ImportFile, ImportLimits, ImportRows, ImportedBytes, ImportedImage};

/// Maximum size of a page of a Parquet file; each thread may hold one page in memory.
const PAGE_BYTES: usize = 128 << 20;

/// Version of the cache entry of a file; raise it when the reader may return other images.
const CACHE_VERSION: u32 = 4;

/// An image of a file, before it is decoded.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cell {
    #[serde(rename = "place")]
    position: CellPosition,
    blob: Option<Digest>,
    bytes: u64,
    #[serde(rename = "refusal")]
    rejection: Option<Rejection>,
    /// Path of the image, where the table has only that. Its file is looked up in every scan.
    link: Option<String>,
}

/// The images of a file, and the reason why the rest could not be read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct FileCells {
    cells: Vec<Cell>,
    failure: Option<Rejection>,
}

impl Scanner<'_> {
    /// Adds the images of a Parquet file. `named_by_user`: whether the user named the file itself,
    /// not only a folder that contains it.
    ///
    /// # Errors
    /// The user named the file itself and it has no usable image column; such a file in a folder is
    /// rejected instead.
    pub(super) fn scan_rows(&mut self, file: ContainerFile<'_>, named_by_user: bool) -> Result<()> {
        let ContainerFile { path, folder, label, digest, .. } = file;
        let key = self.cache_key(digest, named_by_user);
        let cells = match self.read_contents(key)? {
            Some(cells) => cells,
            None => match self.read_file(path, named_by_user) {
                Ok(cells) => {
                    file.check_unchanged()?;
                    // A file that could not be opened may be readable next time.
                    if cells.failure.as_ref().is_none_or(|failure| failure.reason != "unreadable") {
                        self.cache_contents(key, &cells);
                    }
                    cells
                }
                Err(StageError::Source { problem, .. }) if !named_by_user => {
                    FileCells { cells: Vec::new(), failure: Some(Rejection::new("no_image_column", &problem)) }
                }
                Err(e) => return Err(e),
            },
        };
        let links: BTreeSet<&str> = cells.cells.iter().filter_map(|cell| cell.link.as_deref()).collect();
        let linked = self.digest_links(path, folder, &links)?;
        for Cell { position, blob, bytes, rejection, link } in cells.cells {
            let label = position.item.map_or_else(|| label.to_owned(), |item| format!("{label}#{item}"));
            let entry = Entry { label, row: Some(position.row), blob, bytes, rejection };
            let (entry, origin) = match link.and_then(|link| linked.get(&link)) {
                None => {
                    let column = self.request.column.map(str::to_owned);
                    (entry, Origin::Cell { file: path.to_owned(), column, position })
                }
                Some(Ok(LinkedFile { path, digest, bytes })) => {
                    (Entry { blob: Some(*digest), bytes: *bytes, ..entry }, Origin::File(path.clone()))
                }
                Some(Err((bytes, rejection))) => {
                    self.scan.push(Entry { bytes: *bytes, rejection: Some(rejection.clone()), ..entry }, None);
                    continue;
                }
            };
            self.scan.push(entry, Some(origin));
        }
        if let Some(failure) = cells.failure {
            let bytes = path.metadata().map_or(0, |m| m.len());
            self.scan.push(Entry::rejected(label.to_owned(), bytes, failure), None);
        }
        Ok(())
    }

    fn read_file(&self, file: &Path, named_by_user: bool) -> Result<FileCells> {
        let opened = ImportFile::open(file, self.request.column, import_limits(self.max_bytes()));
        // In a folder, a table with the paths of other files is likely.
        let checked = opened.and_then(|images| match named_by_user {
            true => Ok(images),
            false => images.check_guess().map(|()| images),
        });
        let images = match checked {
            Ok(images) => images,
            Err(e) if is_about_columns(&e) => return Err(StageError::source(file, e.text_without_path(file))),
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

    /// Returns the cache key of a file's images, from its bytes, the column, the limits, and
    /// whether the user named it.
    fn cache_key(&self, digest: Digest, named_by_user: bool) -> Digest {
        let column = self.request.column.map_or_else(|| vec![0], |c| [&[1], c.as_bytes()].concat());
        let max_bytes = self.max_bytes().to_le_bytes();
        let reader = [CACHE_VERSION.to_le_bytes(), (PAGE_BYTES as u32).to_le_bytes()].concat();
        let named = [u8::from(named_by_user)];
        let parts = [digest.as_bytes(), &column[..], &max_bytes, &reader, &named];
        Digest::derive("visplay 2026-11 cells of a Parquet file", &parts)
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
    Rejection::new(reason, e.text_without_path(file))
}

fn to_cell(image: ImportedImage) -> Cell {
    let rejected = |reason, detail| Some(Rejection::new(reason, detail));
    let link = image.path.clone().filter(|path| !path.is_empty() && image.bytes == ImportedBytes::Null);
    let (blob, bytes, rejection) = match &image.bytes {
        ImportedBytes::Bytes(bytes) => (Some(Digest::of(bytes)), bytes.len(), None),
        ImportedBytes::Null if link.is_some() => (None, 0, None),
        ImportedBytes::Null => (None, 0, rejected("empty", "the row has no image".to_owned())),
        ImportedBytes::TooLarge(n) => (None, *n, rejected("too_large", format!("{n} bytes, more than max_bytes"))),
    };
    Cell { position: position_of(&image), blob, bytes: bytes as u64, rejection, link }
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
