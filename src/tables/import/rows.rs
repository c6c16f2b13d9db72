//! Iterator over the images of a file's rows.

use std::collections::VecDeque;
use std::ops::Range;

use arrow_array::{Array, ArrayRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::cells::ImportedImage;
use super::error::ImportError;
use super::file::{ImportFile, RowSpan};
use crate::tables::source::catch_panic;

impl ImportFile {
    /// Returns the images of all rows.
    pub fn rows(&self) -> ImportRows {
        self.rows_in(0..u64::MAX)
    }

    /// Returns the images of the rows in `range`, numbered as in the whole file.
    pub fn rows_in(&self, range: Range<u64>) -> ImportRows {
        let spans = self.table.spans(range);
        ImportRows { file: self.clone(), spans, current: None, ready: VecDeque::new(), is_ended: false }
    }
}

/// An iterator over the images of some rows, in order, which ends after the first error.
pub struct ImportRows {
    file: ImportFile,
    spans: VecDeque<RowSpan>,
    current: Option<OpenSpan>,
    /// Images that are read but not yet returned.
    ready: VecDeque<ImportedImage>,
    is_ended: bool,
}

/// A row span with its reader.
struct OpenSpan {
    span: RowSpan,
    batches: ParquetRecordBatchReader,
    array: Option<ArrayRef>,
    next_in_array: usize,
}

impl ImportRows {
    fn next_image(&mut self) -> Result<Option<ImportedImage>, ImportError> {
        loop {
            if let Some(image) = self.ready.pop_front() {
                return Ok(Some(image));
            }
            let Some(mut current) = self.current.take() else {
                let Some(span) = self.spans.pop_front() else { return Ok(None) };
                let batches = self.file.table.open_span(&span, &self.file.leaves)?;
                self.current = Some(OpenSpan { span, batches, array: None, next_in_array: 0 });
                continue;
            };
            let row_group = current.span.row_group;
            let step = catch_panic(|| current.step(&self.file));
            if let Some(images) = step.map_err(|problem| self.file.table.damaged(row_group, problem))? {
                self.ready = images;
                self.current = Some(current);
            }
        }
    }
}

impl OpenSpan {
    /// Returns the images of the next row, or no images after loading a batch, or `None` at the end
    /// of the span.
    fn step(&mut self, file: &ImportFile) -> Result<Option<VecDeque<ImportedImage>>, String> {
        if let Some(array) = self.array.as_ref().filter(|array| self.next_in_array < array.len()) {
            let images =
                file.column.images(array.as_ref(), self.next_in_array, self.span.next_row, &file.table.limits)?;
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

impl Iterator for ImportRows {
    type Item = Result<ImportedImage, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_ended {
            return None;
        }
        let image = self.next_image().transpose();
        self.is_ended = !matches!(image, Some(Ok(_)));
        image
    }
}
