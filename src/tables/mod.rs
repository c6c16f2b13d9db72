//! The tables: each a documented Rust row, one Arrow schema, and files that are the same bytes for the same rows.
//!
//! Stages meet only in tables. A table is a file of this module: its row is a plain struct whose fields are the columns
//! (the [`TableRow`] trait is derived by the `table!` macro). [`TableWriter`] writes rows, [`TableReader`] reads them
//! strictly.

mod cell;
mod error;
pub mod foreign;
mod hugging_face;
mod images;
mod measurements;
mod reader;
mod rejects;
mod row;
mod source;
mod sources;
mod writer;

pub use self::cell::{Cell, CellError};
pub use self::error::TableError;
pub use self::images::{ImageFacts, ImageFile, ImageRow};
pub use self::measurements::Measurement;
pub use self::reader::{TableReader, read, read_file};
pub use self::rejects::RejectRow;
pub use self::row::{Column, TableRow, type_text};
pub use self::sources::{SourceRow, shown_source};
pub use self::writer::{PROFILE, PROFILE_V1, TableWriter, WriterProfile, to_bytes};
