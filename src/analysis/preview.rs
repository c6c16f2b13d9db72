//! Preview of the first rows of a Parquet file of any schema.

use std::io::Cursor;

use polars::error::PolarsError;
use polars_io::SerReader;
use polars_io::parquet::read::ParquetReader;
use serde::Serialize;

/// First rows and columns of a Parquet file.
#[derive(Debug, Clone, Serialize)]
pub struct Preview {
    /// Number of rows in the file.
    pub rows: u64,
    /// Names and types of the columns.
    pub columns: Vec<(String, String)>,
    /// First rows, formatted as a table.
    pub text: String,
}

/// Reads the first `rows` rows of a Parquet file.
///
/// # Errors
/// Polars cannot read it.
pub fn preview_parquet(bytes: Vec<u8>, rows: usize) -> Result<Preview, PolarsError> {
    let mut reader = ParquetReader::new(Cursor::new(bytes));
    let all = reader.num_rows()?;
    let frame = reader.with_slice(Some((0, rows))).finish()?;
    let columns = frame.schema().iter().map(|(name, kind)| (name.to_string(), kind.to_string())).collect();
    Ok(Preview { rows: all as u64, columns, text: frame.to_string() })
}
