//! What every reader of Parquet here shares: an input that several readers can use, and a guard against panics.

use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, Length};

use crate::panics;

/// An input that is read row group by row group, each by a reader of its own.
pub(super) struct SharedReader<C>(Arc<C>);

impl<C> SharedReader<C> {
    pub(super) fn new(source: C) -> Self {
        Self(Arc::new(source))
    }
}

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
        // A file's own reader would first allocate what a damaged footer asks for.
        if start.checked_add(length as u64).is_none_or(|end| end > self.0.len()) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} are beyond the end of the file")));
        }
        self.0.get_bytes(start, length)
    }
}

/// Runs a step of the Parquet reader. The reader has paths that panic on damaged files; as nothing it touched is used
/// afterwards, a panic is one more way of saying that the file is damaged.
pub(super) fn guarded<T, E: std::fmt::Display>(step: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match panics::guarded(step) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => Err(format!("the reader gave up: {panic}")),
    }
}

/// How many rows of a group make about `bytes`, from 1 to `most`, by what the footer says of their size.
pub(super) fn batch_rows(group: &RowGroupMetaData, bytes: usize, most: usize) -> usize {
    let rows = usize::try_from(group.num_rows()).unwrap_or(0).max(1);
    let row_bytes = usize::try_from(group.total_byte_size()).unwrap_or(0) / rows;
    (bytes / row_bytes.max(1)).clamp(1, most)
}
