//! A Parquet file of another program, opened and checked, and with its image column found.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::column::{ImageColumn, has_image_suffix};
use super::error::{ImportError, ImportLimits};
use super::pages::{self, PageProblem};
use crate::tables::error::TableError;
use crate::tables::source::{SharedReader, batch_rows, catch_panic, read_metadata};

/// A Parquet file. It is opened once and may be read from many threads.
#[derive(Clone)]
pub struct ImportTable {
    pub(super) name: Arc<str>,
    source: SharedReader<File>,
    pub(super) metadata: ArrowReaderMetadata,
    pub(super) limits: ImportLimits,
}

impl ImportTable {
    /// Opens the file at `path` and checks its footer.
    ///
    /// # Errors
    /// The file cannot be opened, or is damaged or not Parquet.
    pub fn open(path: &Path, limits: ImportLimits) -> Result<Self, ImportError> {
        let file = path.display().to_string();
        let cannot_open = |problem| TableError::Open { file: file.clone(), problem };
        let opened = File::open(path).map_err(|e| cannot_open(e.to_string()))?;
        if !opened.metadata().map_err(|e| cannot_open(e.to_string()))?.is_file() {
            return Err(cannot_open("it is not a file".to_owned()).into());
        }
        let source = SharedReader(Arc::new(opened));
        let metadata = read_metadata(&file, &source)?;
        if metadata.metadata().row_groups().iter().any(|group| group.num_rows() < 0) {
            let problem = "a row group with a negative number of rows".to_owned();
            return Err(TableError::Damaged { file, row_group: None, problem }.into());
        }
        Ok(Self { name: file.into(), source, metadata, limits })
    }

    /// Returns the number of rows according to the footer.
    pub fn row_count(&self) -> u64 {
        self.metadata.metadata().row_groups().iter().map(|group| group.num_rows().unsigned_abs()).sum()
    }

    /// Finds the image column, which is `column` if given.
    ///
    /// # Errors
    /// No column, or no single column, is recognized as the one with images.
    pub fn images(&self, column: Option<&str>) -> Result<ImportFile, ImportError> {
        let column = ImageColumn::find(&self.name, &self.metadata, column)?;
        let leaves = column.leaves(self.metadata.parquet_schema());
        Ok(ImportFile { table: self.clone(), column, leaves })
    }

    /// Returns the spans of the rows in `range`, one per row group.
    pub(super) fn spans(&self, range: Range<u64>) -> VecDeque<RowSpan> {
        let mut spans = VecDeque::new();
        let mut start = 0;
        for (row_group, metadata) in self.metadata.metadata().row_groups().iter().enumerate() {
            let end = start + metadata.num_rows().unsigned_abs();
            let (from, to) = (start.max(range.start), end.min(range.end));
            if from < to {
                spans.push_back(RowSpan { row_group, skip: from - start, next_row: from, end_row: to });
            }
            start = end;
        }
        spans
    }

    /// Opens a reader of the rows of `span` in some leaves of the schema, after checking the pages
    /// of its row group.
    pub(super) fn open_span(&self, span: &RowSpan, leaves: &[usize]) -> Result<ParquetRecordBatchReader, ImportError> {
        let group = self.metadata.metadata().row_group(span.row_group);
        let chunks = leaves.iter().map(|&leaf| group.column(leaf));
        pages::check(&self.source, chunks, self.limits.page_bytes).map_err(|problem| match problem {
            PageProblem::Damaged(problem) => self.damaged(span.row_group, problem),
            PageProblem::TooLarge => ImportError::LargePage {
                file: self.name.to_string(),
                row_group: span.row_group,
                limit: self.limits.page_bytes,
            },
        })?;
        let mask = ProjectionMask::leaves(self.metadata.parquet_schema(), leaves.iter().copied());
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.source.clone(), self.metadata.clone())
            .with_row_groups(vec![span.row_group])
            .with_projection(mask)
            .with_batch_size(self.batch_rows(span.row_group, leaves))
            .with_offset(usize::try_from(span.skip).unwrap_or(usize::MAX))
            .with_limit(usize::try_from(span.end_row - span.next_row).unwrap_or(usize::MAX));
        catch_panic(|| builder.build()).map_err(|problem| self.damaged(span.row_group, problem))
    }

    /// Returns the batch size, in rows, for a row group: a batch is small compared with the largest
    /// page.
    fn batch_rows(&self, row_group: usize, leaves: &[usize]) -> usize {
        const BATCH_BYTES: u64 = 8 << 20;
        const BATCH_ROWS: u64 = 256;
        let group = self.metadata.metadata().row_group(row_group);
        let bytes = leaves.iter().map(|&leaf| group.column(leaf).uncompressed_size().unsigned_abs()).sum();
        batch_rows(group, bytes, BATCH_BYTES, BATCH_ROWS)
    }

    /// Returns the error of a damaged row group.
    pub(super) fn damaged(&self, row_group: usize, problem: String) -> ImportError {
        TableError::Damaged { file: self.name.to_string(), row_group: Some(row_group), problem }.into()
    }
}

/// A Parquet file with a column of images.
#[derive(Clone)]
pub struct ImportFile {
    pub(super) table: ImportTable,
    pub(super) column: ImageColumn,
    /// Leaves of the schema that the column consists of.
    pub(super) leaves: Vec<usize>,
}

impl ImportFile {
    /// Opens the file at `path` and finds its image column, which is `column` if given.
    ///
    /// # Errors
    /// Those of [`ImportTable::open`] and [`ImportTable::images`].
    pub fn open(path: &Path, column: Option<&str>, limits: ImportLimits) -> Result<Self, ImportError> {
        ImportTable::open(path, limits)?.images(column)
    }

    /// Returns the name of the image column.
    pub fn column(&self) -> &str {
        &self.column.name
    }

    /// Whether the column can hold the bytes of images, not only their paths.
    pub fn can_hold_bytes(&self) -> bool {
        self.column.layout.can_hold_bytes()
    }

    /// Checks that the column has images if it was found only by a name that paths of any files
    /// have, such as `path`: its first path must end like that of an image file. A damaged file
    /// passes.
    ///
    /// # Errors
    /// The column has no image: [`ImportError::NoColumn`].
    pub fn check_guess(&self) -> Result<(), ImportError> {
        if !self.column.is_guess {
            return Ok(());
        }
        let mut paths = self.rows().map(|image| image.map(|image| image.path.filter(|path| !path.is_empty())));
        match paths.find_map(Result::transpose) {
            Some(Ok(path)) if !has_image_suffix(&path) => {}
            None => {}
            Some(_) => return Ok(()),
        }
        Err(ImportError::NoColumn { file: self.table.name.to_string(), columns: self.table.columns() })
    }

    /// Returns the number of rows according to the footer.
    pub fn row_count(&self) -> u64 {
        self.table.row_count()
    }
}

/// The rows of a row group that are not yet read.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowSpan {
    /// The row group, from 0.
    pub(super) row_group: usize,
    /// Rows of the group before the first one that is read.
    pub(super) skip: u64,
    /// The next row to read, counted in the whole file.
    pub(super) next_row: u64,
    /// One past the last row to read.
    pub(super) end_row: u64,
}
