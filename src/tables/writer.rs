//! The deterministic Parquet writer: the same rows in the same order give the same bytes.
//!
//! Rows are gathered until a row group is full, and each row group is handed to the encoder as one batch: where pages end
//! depends on the rows alone, not on how they arrived. A row group ends by the profile's number of rows or bytes, the
//! bytes counted on the values ([`TableRow::byte_size`]), never on buffers. Memory is bounded by a row group.
//!
//! Stages hand in rows sorted; the order is theirs to fix, and the writer keeps it. No time, host, path or library version
//! is written. Column docs stay out of the files, too (they are in `schemas/*.json`): better words must not change bytes.

use std::io::Write;
use std::marker::PhantomData;

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

/// Everything that decides how rows become bytes, beside the rows and their schema. A profile never changes: another way
/// to write is another profile with another number, which enters the store's action keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterProfile {
    /// The profile's number.
    pub number: u32,
    /// Most rows in a row group.
    pub row_group_rows: usize,
    /// A row group ends with the row that reaches this many bytes.
    pub row_group_bytes: usize,
    /// A data page ends near this many bytes.
    pub data_page_bytes: usize,
    /// Most rows in a data page.
    pub data_page_rows: usize,
    /// A dictionary that grows beyond this many bytes is given up for plain values.
    pub dictionary_page_bytes: usize,
    /// Rows that the encoder takes between two looks at the page's size.
    pub write_batch_rows: usize,
    /// Level of zstd compression.
    pub zstd_level: i32,
    /// Lower and upper bounds in statistics are cut to this many bytes: an id fits.
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

/// The profile that tables are written with.
pub const PROFILE: WriterProfile = PROFILE_V1;

/// Arrow's offsets are 32 bits wide; a row beyond half of their reach is refused.
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
                // Image files are compressed already: zstd would take time and give nothing.
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

/// Writes the rows of one table to one file.
pub struct TableWriter<R: TableRow, W: Write + Send> {
    parquet: ArrowWriter<W>,
    profile: WriterProfile,
    pending: Vec<R>,
    pending_bytes: usize,
    rows: u64,
    table: PhantomData<R>,
}

impl<R: TableRow, W: Write + Send> TableWriter<R, W> {
    /// Starts a file of the table on `out`, with [`PROFILE`].
    pub fn new(out: W) -> Result<Self, TableError> {
        Self::with_profile(out, PROFILE)
    }

    /// Starts a file of the table on `out`.
    pub fn with_profile(out: W, profile: WriterProfile) -> Result<Self, TableError> {
        if !R::HAS_ALL_COLUMNS {
            return Err(TableError::View { table: R::TABLE });
        }
        let properties = profile.properties::<R>().map_err(cannot_write::<R>)?;
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let parquet = ArrowWriter::try_new_with_options(out, R::schema(), options).map_err(cannot_write::<R>)?;
        Ok(Self { parquet, profile, pending: Vec::new(), pending_bytes: 0, rows: 0, table: PhantomData })
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

    /// Rows so far.
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

    /// Writes what is left and the footer. Gives `out` back, which is neither flushed nor synced.
    pub fn finish(mut self) -> Result<W, TableError> {
        if !self.pending.is_empty() {
            self.end_row_group()?;
        }
        self.parquet.into_inner().map_err(cannot_write::<R>)
    }
}

fn cannot_write<R: TableRow>(problem: impl std::fmt::Display) -> TableError {
    TableError::Write { table: R::TABLE, problem: problem.to_string() }
}

/// The bytes of a file with `rows`.
pub fn to_bytes<R: TableRow>(rows: impl IntoIterator<Item = R>) -> Result<Vec<u8>, TableError> {
    let mut writer = TableWriter::new(Vec::new())?;
    for row in rows {
        writer.push(row)?;
    }
    writer.finish()
}
