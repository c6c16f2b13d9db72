//! Limits and errors of reading images from a Parquet file of another program.

use std::path::Path;

use thiserror::Error;

use crate::tables::error::TableError;

/// Limits of the memory that a file may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportLimits {
    /// Largest image in bytes; a larger one is reported without its bytes.
    pub image_bytes: usize,
    /// Largest decompressed page in bytes, which is held in memory; a larger one is an error.
    pub page_bytes: usize,
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self { image_bytes: 64 << 20, page_bytes: 512 << 20 }
    }
}

/// The reason why the images of a Parquet file cannot be read.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file cannot be opened, or is damaged or not Parquet.
    #[error(transparent)]
    File(#[from] TableError),
    /// No column was recognized as the one with images.
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
        /// The candidate columns.
        candidates: String,
    },
    /// The named column does not exist.
    #[error("{file}: no column `{column}`; its columns are: {columns}")]
    UnknownColumn {
        /// The file.
        file: String,
        /// The name of the column.
        column: String,
        /// The columns and their types.
        columns: String,
    },
    /// The named column cannot hold images.
    #[error(
        "{file}: column `{column}` is {found}; images are binary, a string (a path), a struct with \
         binary `bytes` or a string `path`, or lists of these"
    )]
    NotImages {
        /// The file.
        file: String,
        /// The name of the column.
        column: String,
        /// Its type.
        found: String,
    },
    /// The values of the named column have no text.
    #[error(
        "{file}: column `{column}` is {found}; strings, integers, floats, decimals, booleans, and lists with one of \
         these are accepted"
    )]
    NotTexts {
        /// The file.
        file: String,
        /// The name of the column.
        column: String,
        /// Its type.
        found: String,
    },
    /// A page is larger than the limit.
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

impl ImportError {
    /// Returns the message without the path of the `file`, for a caller that names it itself.
    pub fn text_without_path(&self, file: &Path) -> String {
        let text = self.to_string();
        text.strip_prefix(&format!("{}: ", file.display())).unwrap_or(&text).to_owned()
    }
}
