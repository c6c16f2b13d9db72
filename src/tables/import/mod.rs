//! Images from Parquet files that other programs wrote: the image column is found, and its cells are streamed one by one.
//!
//! Such a file may be damaged or malicious. Its footer and every page header are checked before the Parquet reader sees
//! them, so that memory is bounded by [`ImportLimits`], and a panic of the reader becomes an error. The Arrow schema that a
//! writer may have embedded is ignored: the Parquet schema alone says which columns hold bytes, so that large, viewed,
//! dictionary-encoded and plain binary columns are all read in the same way.

mod cells;
mod column;
mod error;
mod file;
mod pages;
mod rows;

pub use self::cells::{ImportedBytes, ImportedImage};
pub use self::error::{ImportError, ImportLimits};
pub use self::file::ImportFile;
pub use self::rows::ImportRows;
