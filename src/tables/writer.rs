//! Deterministic Parquet writer: the same rows in the same order give the same bytes.
//!
//! Rows are collected until a row group is full, and each row group is passed to the encoder as one
//! batch, so that page boundaries depend on the rows alone. A row group ends at the profile's
//! number of rows or bytes, where bytes are counted on the values ([`TableRow::byte_size`]) and not
//! on buffers. Memory is bounded by a row group.
//!
//! Stages pass rows in their final order, which the writer keeps. No time, host name, path or
//! library version is written. Column documentation is not written either (it is in
//! `schemas/*.json`), so that rewording it does not change any bytes.

use std::error::Error;
use std::io::{self, Write};

use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, Encoding, LogicalType, Type, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnDescriptor;

use super::cell::CellError;
use super::error::TableError;
use super::hugging_face;
use super::row::TableRow;

/// All settings that determine how rows become bytes. A profile never changes: different settings
/// are a new profile with a new number, which is part of the store's action keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterProfile {
    /// Number of the profile.
    pub number: u32,
    /// Largest number of rows of a row group.
    pub row_group_rows: usize,
    /// Size in bytes at which a row group ends.
    pub row_group_bytes: usize,
    /// Approximate size of a data page in bytes.
    pub data_page_bytes: usize,
    /// Largest number of rows of a data page.
    pub data_page_rows: usize,
    /// Size in bytes above which a dictionary is replaced by plain values.
    pub dictionary_page_bytes: usize,
    /// Number of rows between two checks of the page size.
    pub write_batch_rows: usize,
    /// Level of zstd compression.
    pub zstd_level: i32,
    /// Length in bytes to which bounds in statistics are truncated; an id fits.
    pub statistics_bytes: usize,
}

/// The first profile.
pub const PROFILE_V1: WriterProfile = WriterProfile {
    number: 1,
    row_group_rows: 8192,
    row_group_bytes: 8 << 20,
    data_page_bytes: 1 << 20,
    data_page_rows: 20_000,
    dictionary_page_bytes: 1 << 20,
    write_batch_rows: 1024,
    zstd_level: 3,
    statistics_bytes: 64,
};

/// The current profile.
pub const PROFILE: WriterProfile = PROFILE_V1;

/// Largest row in bytes: half of the range of Arrow's 32-bit offsets.
const MAX_ROW_BYTES: usize = 1 << 30;

impl WriterProfile {
    fn properties<R: TableRow>(&self) -> Result<WriterProperties, parquet::errors::ParquetError> {
        let zstd = Compression::ZSTD(ZstdLevel::try_new(self.zstd_level)?);
        let mut properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_created_by(format!("visplay writer-profile {}", self.number))
            .set_key_value_metadata(Some(self.metadata::<R>()))
            .set_max_row_group_row_count(None)
            .set_max_row_group_bytes(None)
            .set_data_page_size_limit(self.data_page_bytes)
            .set_data_page_row_count_limit(self.data_page_rows)
            .set_dictionary_page_size_limit(self.dictionary_page_bytes)
            .set_write_batch_size(self.write_batch_rows)
            .set_compression(zstd)
            .set_dictionary_enabled(true)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_statistics_truncate_length(Some(self.statistics_bytes))
            .set_column_index_truncate_length(Some(self.statistics_bytes))
            .set_offset_index_disabled(true)
            .set_bloom_filter_enabled(false);
        for column in ArrowSchemaConverter::new().convert(&R::schema())?.columns() {
            let path = column.path().clone();
            if holds_raw_bytes(column) {
                // Image files are already compressed; zstd would only cost time.
                properties = properties
                    .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_statistics_enabled(path, EnabledStatistics::None);
            } else if matches!(column.physical_type(), Type::FLOAT | Type::DOUBLE) {
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path, Encoding::PLAIN);
            }
        }
        Ok(properties.build())
    }

    fn metadata<R: TableRow>(&self) -> Vec<KeyValue> {
        let mut metadata = vec![
            KeyValue::new("visplay.table".to_owned(), R::TABLE.to_owned()),
            KeyValue::new("visplay.schema".to_owned(), R::schema_id().to_string()),
        ];
        if let Some(features) = hugging_face::features(&R::columns()) {
            metadata.push(KeyValue::new(hugging_face::METADATA_KEY.to_owned(), features));
        }
        metadata
    }
}

fn holds_raw_bytes(column: &ColumnDescriptor) -> bool {
    column.physical_type() == Type::BYTE_ARRAY && column.logical_type_ref() != Some(&LogicalType::String)
}

/// Writes the rows of a table to a file.
pub struct TableWriter<R: TableRow, W: Write + Send> {
    parquet: ArrowWriter<W>,
    profile: WriterProfile,
    pending: Vec<R>,
    pending_bytes: usize,
    rows: u64,
}

impl<R: TableRow, W: Write + Send> TableWriter<R, W> {
    /// Starts a file on `out` with [`PROFILE`].
    pub fn new(out: W) -> Result<Self, TableError> {
        Self::with_profile(out, PROFILE)
    }

    /// Starts a file on `out` with a profile.
    pub fn with_profile(out: W, profile: WriterProfile) -> Result<Self, TableError> {
        if !R::HAS_ALL_COLUMNS {
            return Err(TableError::View { table: R::TABLE });
        }
        let properties = profile.properties::<R>().map_err(cannot_write::<R>)?;
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let parquet = ArrowWriter::try_new_with_options(out, R::schema(), options).map_err(cannot_write::<R>)?;
        Ok(Self { parquet, profile, pending: Vec::new(), pending_bytes: 0, rows: 0 })
    }

    /// Adds a row.
    pub fn push(&mut self, row: R) -> Result<(), TableError> {
        let bad_row = |column: String, problem| TableError::Row { table: R::TABLE, row: self.rows, column, problem };
        row.check().map_err(|(number, problem)| bad_row(R::columns()[number].name.to_owned(), problem))?;
        let bytes = row.byte_size();
        if bytes > MAX_ROW_BYTES {
            return Err(bad_row("*".to_owned(), CellError::TooLarge { bytes, limit: MAX_ROW_BYTES }));
        }
        self.pending.push(row);
        self.pending_bytes += bytes;
        self.rows += 1;
        if self.pending.len() >= self.profile.row_group_rows || self.pending_bytes >= self.profile.row_group_bytes {
            self.end_row_group()?;
        }
        Ok(())
    }

    /// Returns the number of rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn end_row_group(&mut self) -> Result<(), TableError> {
        let batch = R::to_batch(&self.pending).map_err(cannot_write::<R>)?;
        self.pending.clear();
        self.pending_bytes = 0;
        self.parquet.write(&batch).map_err(cannot_write::<R>)?;
        self.parquet.flush().map_err(cannot_write::<R>)
    }

    /// Writes the remaining rows and the footer, and returns `out`, not flushed and not synced.
    pub fn finish(mut self) -> Result<W, TableError> {
        if !self.pending.is_empty() {
            self.end_row_group()?;
        }
        self.parquet.into_inner().map_err(cannot_write::<R>)
    }
}

fn cannot_write<R: TableRow>(problem: impl Error + 'static) -> TableError {
    let causes = std::iter::successors(Some(&problem as &(dyn Error + 'static)), |&e| e.source());
    let io_kind = causes.filter_map(|e| e.downcast_ref()).map(io::Error::kind).next();
    TableError::Write { table: R::TABLE, problem: problem.to_string(), io_kind }
}

/// Returns the bytes of a file with `rows`.
pub fn to_bytes<R: TableRow>(rows: impl IntoIterator<Item = R>) -> Result<Vec<u8>, TableError> {
    let mut writer = TableWriter::new(Vec::new())?;
    for row in rows {
        writer.push(row)?;
    }
    writer.finish()
}
