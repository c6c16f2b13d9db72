//! Images and texts from Parquet files of other programs: the image column is found, its cells
//! streamed.
//!
//! Such a file may be damaged or malicious. Its footer and all page headers are checked before the
//! Parquet reader sees them, so that memory is bounded by [`ImportLimits`], and a panic of the
//! reader becomes an error. An Arrow schema that a writer embedded is ignored. The Parquet schema
//! alone tells which columns hold bytes, so that large, view, dictionary-encoded and plain binary
//! columns are all read in the same way.

mod cells;
mod column;
mod error;
mod file;
mod pages;
mod rows;
mod texts;

pub use self::cells::{ImportedBytes, ImportedImage};
pub use self::error::{ImportError, ImportLimits};
pub use self::file::{ImportFile, ImportTable};
pub use self::rows::ImportRows;
pub use self::texts::Text;
