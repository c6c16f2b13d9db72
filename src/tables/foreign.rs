//! Images from Parquet files that others made: the image column is found, and its cells stream out one by one.
//!
//! Nothing is taken on trust. A file may be damaged or made to harm: its footer and every page are looked at before the
//! Parquet reader sees them, so that memory is bounded by [`ForeignLimits`], and a panic of the reader is an error here.
//! The Arrow schema that a writer may have left is ignored: the Parquet schema says which columns hold bytes, so that
//! large, viewed, dictionary-encoded and plain binary columns are all the same.

mod cells;
mod column;
mod pages;

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::ArrayRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use thiserror::Error;

pub use self::cells::{ForeignBytes, ForeignImage};
use self::column::ImageColumn;
use super::footer;
use super::source::{SharedReader, guarded};

/// How much memory a file may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignLimits {
    /// A larger image is reported as too large, without its bytes.
    pub image_bytes: usize,
    /// A file with a larger page, decompressed, is refused: a page is held whole.
    pub page_bytes: usize,
}

impl Default for ForeignLimits {
    fn default() -> Self {
        Self { image_bytes: 64 << 20, page_bytes: 512 << 20 }
    }
}

/// Why a Parquet file gives no images.
#[derive(Debug, Error)]
pub enum ForeignError {
    /// The file cannot be opened or read.
    #[error("{file}: cannot open: {problem}")]
    Open {
        /// The file.
        file: String,
        /// What the system says.
        problem: String,
    },
    /// The file is not Parquet, or damaged.
    #[error("{file}: damaged or not a Parquet file{}: {problem}", .row_group.map_or(String::new(), |g| format!(" (row group {g})")))]
    Damaged {
        /// The file.
        file: String,
        /// The row group, where known, from 0.
        row_group: Option<usize>,
        /// What the reader says.
        problem: String,
    },
    /// No column holds images, as far as can be told.
    #[error("{file}: no column of images found; name one of its columns: {columns}")]
    NoColumn {
        /// The file.
        file: String,
        /// The columns and their types.
        columns: String,
    },
    /// Several columns may hold the images.
    #[error("{file}: the images may be in {candidates}; name the column")]
    Ambiguous {
        /// The file.
        file: String,
        /// The columns in question.
        candidates: String,
    },
    /// The column that was named is not there.
    #[error("{file}: no column `{column}`; its columns are: {columns}")]
    UnknownColumn {
        /// The file.
        file: String,
        /// The name.
        column: String,
        /// The columns and their types.
        columns: String,
    },
    /// The column that was named cannot hold images.
    #[error("{file}: column `{column}` is {found}; images are binary, a struct with binary `bytes`, or lists of these")]
    NotImages {
        /// The file.
        file: String,
        /// The name.
        column: String,
        /// Its type.
        found: String,
    },
    /// A page larger than the limit.
    #[error(
        "{file}: row group {row_group} has a page of more than {limit} bytes; write the file again with smaller row groups"
    )]
    LargePage {
        /// The file.
        file: String,
        /// The row group, from 0.
        row_group: usize,
        /// The limit.
        limit: usize,
    },
}

/// A Parquet file with a column of images. It is opened once and may be read from many threads.
#[derive(Clone)]
pub struct ForeignImages {
    name: Arc<str>,
    source: SharedReader<File>,
    metadata: ArrowReaderMetadata,
    column: ImageColumn,
    mask: ProjectionMask,
    limits: ForeignLimits,
}

impl ForeignImages {
    /// Opens the file at `path` and finds its column of images, which is `column` if one is named.
    pub fn open(path: &Path, column: Option<&str>, limits: ForeignLimits) -> Result<Self, ForeignError> {
        let file = path.display().to_string();
        let opened = File::open(path).and_then(|opened| opened.metadata().map(|metadata| (opened, metadata)));
        let (opened, metadata) =
            opened.map_err(|e| ForeignError::Open { file: file.clone(), problem: e.to_string() })?;
        if !metadata.is_file() {
            return Err(ForeignError::Open { file, problem: "it is not a file".to_owned() });
        }
        let source = SharedReader::new(opened);
        let damaged = |problem| ForeignError::Damaged { file: file.clone(), row_group: None, problem };
        footer::check(&source).map_err(damaged)?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = guarded(|| ArrowReaderMetadata::load(&source, options)).map_err(damaged)?;
        if metadata.metadata().row_groups().iter().any(|group| group.num_rows() < 0) {
            return Err(damaged("a row group with a negative number of rows".to_owned()));
        }
        let column = ImageColumn::find(&file, &metadata, column)?;
        let mask = ProjectionMask::leaves(metadata.parquet_schema(), column.leaves(metadata.parquet_schema()));
        Ok(Self { name: file.into(), source, metadata, column, mask, limits })
    }

    /// The column of images.
    pub fn column(&self) -> &str {
        self.column.name()
    }

    /// Rows in the file, by its footer.
    pub fn row_count(&self) -> u64 {
        self.metadata.metadata().row_groups().iter().map(|group| group.num_rows().unsigned_abs()).sum()
    }

    /// The images of all rows.
    pub fn rows(&self) -> ForeignRows {
        self.rows_in(0..u64::MAX)
    }

    /// The images of the rows in `range`, numbered as in the whole file.
    pub fn rows_in(&self, range: Range<u64>) -> ForeignRows {
        let mut spans = VecDeque::new();
        let mut start = 0;
        for (row_group, metadata) in self.metadata.metadata().row_groups().iter().enumerate() {
            let end = start + metadata.num_rows().unsigned_abs();
            let (from, to) = (start.max(range.start), end.min(range.end));
            if from < to {
                spans.push_back(Span { row_group, skip: from - start, next_row: from, end_row: to });
            }
            start = end;
        }
        ForeignRows { file: self.clone(), spans, current: None, ready: VecDeque::new(), ended: false }
    }

    fn open_span(&self, span: &Span) -> Result<ParquetRecordBatchReader, ForeignError> {
        pages::check(self, span.row_group)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.source.clone(), self.metadata.clone())
            .with_row_groups(vec![span.row_group])
            .with_projection(self.mask.clone())
            .with_batch_size(self.batch_rows(span.row_group))
            .with_offset(usize::try_from(span.skip).unwrap_or(usize::MAX))
            .with_limit(usize::try_from(span.end_row - span.next_row).unwrap_or(usize::MAX));
        guarded(|| builder.build()).map_err(|problem| self.damaged(span.row_group, problem))
    }

    /// Few enough rows that a batch is a small part of what a page may be.
    fn batch_rows(&self, row_group: usize) -> usize {
        const BATCH_BYTES: u64 = 8 << 20;
        const BATCH_ROWS: u64 = 256;
        let group = self.metadata.metadata().row_group(row_group);
        let leaves = self.column.leaves(self.metadata.parquet_schema());
        let bytes: u64 = leaves.iter().map(|&leaf| group.column(leaf).uncompressed_size().unsigned_abs()).sum();
        let row_bytes = bytes / group.num_rows().unsigned_abs().max(1);
        (BATCH_BYTES / row_bytes.max(1)).clamp(1, BATCH_ROWS) as usize
    }

    fn damaged(&self, row_group: usize, problem: String) -> ForeignError {
        ForeignError::Damaged { file: self.name.to_string(), row_group: Some(row_group), problem }
    }
}

/// The rows of one row group that are still to come.
#[derive(Debug, Clone, Copy)]
struct Span {
    row_group: usize,
    skip: u64,
    next_row: u64,
    end_row: u64,
}

/// The images of some rows, in order. It ends after the first error.
pub struct ForeignRows {
    file: ForeignImages,
    spans: VecDeque<Span>,
    current: Option<Current>,
    ready: VecDeque<ForeignImage>,
    ended: bool,
}

struct Current {
    span: Span,
    batches: ParquetRecordBatchReader,
    array: Option<ArrayRef>,
    next_in_array: usize,
}

impl ForeignRows {
    fn next_image(&mut self) -> Result<Option<ForeignImage>, ForeignError> {
        loop {
            if let Some(image) = self.ready.pop_front() {
                return Ok(Some(image));
            }
            let Some(mut current) = self.current.take() else {
                let Some(span) = self.spans.pop_front() else { return Ok(None) };
                let batches = self.file.open_span(&span)?;
                self.current = Some(Current { span, batches, array: None, next_in_array: 0 });
                continue;
            };
            let row_group = current.span.row_group;
            let step = guarded(|| current.step(&self.file));
            if let Some(images) = step.map_err(|problem| self.file.damaged(row_group, problem))? {
                self.ready = images;
                self.current = Some(current);
            }
        }
    }
}

impl Current {
    /// The images of the next row, which may be none yet when a batch had to be loaded; `None` at the end of the span.
    fn step(&mut self, file: &ForeignImages) -> Result<Option<VecDeque<ForeignImage>>, String> {
        if let Some(array) = self.array.as_ref().filter(|array| self.next_in_array < array.len()) {
            let images = file.column.images(array.as_ref(), self.next_in_array, self.span.next_row, &file.limits)?;
            self.next_in_array += 1;
            self.span.next_row += 1;
            return Ok(Some(images));
        }
        self.array = None;
        let Some(batch) = self.batches.next().transpose().map_err(|e| e.to_string())? else {
            let missing = self.span.end_row - self.span.next_row;
            return if missing == 0 { Ok(None) } else { Err(format!("{missing} rows are missing")) };
        };
        if batch.num_rows() as u64 > self.span.end_row - self.span.next_row {
            return Err("it has more rows than its footer says".to_owned());
        }
        self.array = batch.columns().first().cloned();
        self.next_in_array = 0;
        Ok(Some(VecDeque::new()))
    }
}

impl Iterator for ForeignRows {
    type Item = Result<ForeignImage, ForeignError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let image = self.next_image().transpose();
        self.ended = !matches!(image, Some(Ok(_)));
        image
    }
}
