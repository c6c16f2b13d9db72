//! Shared parts of the Parquet readers: an input for several readers, and a guard against panics.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::error::TableError;
use super::footer;
use crate::input_kind::describe_instead_of_table_bytes;
use crate::panics;

/// An input that several readers share, one reader per row group.
pub(super) struct SharedReader<C>(pub(super) Arc<C>);

impl<C> Clone for SharedReader<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Length> Length for SharedReader<C> {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl<C: ChunkReader> ChunkReader for SharedReader<C> {
    type T = C::T;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        // `File` would first allocate the length that a damaged footer declares.
        if start.checked_add(length as u64).is_none_or(|end| end > self.0.len()) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} are beyond the end of the file")));
        }
        self.0.get_bytes(start, length)
    }
}

/// Reads the metadata of a file, whose footer is checked first. `file` is its name in messages.
pub(super) fn read_metadata(file: &str, source: &impl ChunkReader) -> Result<ArrowReaderMetadata, TableError> {
    // An embedded Arrow schema is ignored, since it could only contradict the Parquet schema.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = footer::check(source).and_then(|()| catch_panic(|| ArrowReaderMetadata::load(source, options)));
    metadata.map_err(|problem| {
        let head = source.get_bytes(0, source.len().min(512) as usize).unwrap_or_default();
        match describe_instead_of_table_bytes(Path::new(file), &head) {
            Some(problem) => TableError::Foreign { file: file.to_owned(), problem },
            None => TableError::Damaged { file: file.to_owned(), row_group: None, problem },
        }
    })
}

/// Runs a step of the Parquet reader and converts a panic into an error. The reader panics on some
/// damaged files; no state of it is used afterwards.
pub(super) fn catch_panic<T, E: std::fmt::Display>(step: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match panics::guarded(step) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => Err(format!("the reader gave up: {panic}")),
    }
}

/// Returns the number of rows that take about `bytes` in a group of `group_bytes`, from 1 to
/// `max_rows`.
pub(super) fn batch_rows(group: &RowGroupMetaData, group_bytes: u64, bytes: u64, max_rows: u64) -> usize {
    let row_bytes = group_bytes / u64::try_from(group.num_rows()).unwrap_or(0).max(1);
    (bytes / row_bytes.max(1)).clamp(1, max_rows) as usize
}
