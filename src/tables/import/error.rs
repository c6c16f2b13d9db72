//! The limits for imported Parquet files, and the errors of reading one.

use thiserror::Error;

/// How much memory a file may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportLimits {
    /// A larger image is reported as too large, without its bytes.
    pub image_bytes: usize,
    /// A file with a larger page, decompressed, is refused: a page is held whole.
    pub page_bytes: usize,
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self { image_bytes: 64 << 20, page_bytes: 512 << 20 }
    }
}

/// Why a Parquet file gives no images.
#[derive(Debug, Error)]
pub enum ImportError {
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
