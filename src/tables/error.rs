//! Errors of reading and writing tables.

use thiserror::Error;

use super::cell::CellError;

/// A table that cannot be written or read. `file` is the caller's name of the input.
#[derive(Debug, Error)]
pub enum TableError {
    /// A row has an invalid value.
    #[error("table {table}, row {row}, column `{column}`: {problem}")]
    Row {
        /// The table.
        table: &'static str,
        /// Index of the row, from 0.
        row: u64,
        /// The column.
        column: String,
        /// The problem of the value.
        problem: CellError,
    },
    /// Writing failed.
    #[error("table {table}: cannot write: {problem}")]
    Write {
        /// The table.
        table: &'static str,
        /// The message of the Parquet writer or the operating system.
        problem: String,
        /// The kind of the operating system's error, if it was one.
        io_kind: Option<std::io::ErrorKind>,
    },
    /// A view was passed to the writer; it has only some of its table's columns.
    #[error("a view of table {table} can only be read")]
    View {
        /// The table.
        table: &'static str,
    },
    /// The file cannot be opened.
    #[error("{file}: cannot open: {problem}")]
    Open {
        /// The file.
        file: String,
        /// The message of the operating system.
        problem: String,
    },
    /// The path is something else than a Parquet file.
    #[error("{file} is not a Parquet file: {problem}")]
    Foreign {
        /// The file or folder.
        file: String,
        /// Its kind, and what to do.
        problem: String,
    },
    /// The file is not readable as Parquet.
    #[error("{file}: damaged or not a Parquet file{}: {problem}", .row_group.map_or(String::new(), |g| format!(" (row group {g})")))]
    Damaged {
        /// The file.
        file: String,
        /// The row group, if known, from 0.
        row_group: Option<usize>,
        /// The message of the reader.
        problem: String,
    },
    /// The file lacks a column.
    #[error("{file}: table {table} needs a column `{column}` ({expected}), but the file has none")]
    MissingColumn {
        /// The file.
        file: String,
        /// The table.
        table: &'static str,
        /// The column.
        column: String,
        /// Its type.
        expected: String,
    },
    /// The file has a column that the table does not have.
    #[error("{file}: column `{column}` is not a column of table {table}")]
    ExtraColumn {
        /// The file.
        file: String,
        /// The table.
        table: &'static str,
        /// The column.
        column: String,
    },
    /// A column has the wrong type.
    #[error("{file}: column `{column}` of table {table} must be {expected}, but is {found}")]
    WrongType {
        /// The file.
        file: String,
        /// The table.
        table: &'static str,
        /// The column.
        column: String,
        /// The type it must have.
        expected: String,
        /// The type it has.
        found: String,
    },
    /// A value is invalid for its column.
    #[error("{file}: row {row}, column `{column}`: {problem}")]
    Value {
        /// The file.
        file: String,
        /// Index of the row in the file, from 0.
        row: u64,
        /// The column.
        column: String,
        /// The problem of the value.
        problem: CellError,
    },
}
