//! `sources`: every entry that ingest met and what became of it: an image, or a reject.

use super::row::table;
use crate::ids::ImageId;

table! {
    /// An entry of the sources: a file, or a row of a Parquet file.
    #[table("sources")]
    pub struct SourceRow {
        /// The path within the source.
        pub source: String,
        /// The row in a source that is a table, from 0; null for a file.
        pub source_row: Option<u64>,
        /// The blake3 digest of its bytes; null when they could not be read.
        pub image_id: Option<ImageId>,
        /// Length in bytes.
        pub size: u64,
        /// The format by content; null when unknown or measured under another name.
        pub format: Option<String>,
        /// Width in pixels of the upright image.
        pub width: Option<u32>,
        /// Height in pixels of the upright image.
        pub height: Option<u32>,
        /// The EXIF orientation tag, 1 to 8.
        pub orientation: Option<u32>,
        /// The perceptual hash, 64 bits.
        pub perceptual_hash: Option<u64>,
        /// Why it was left out, as a stable word; null when it became an image.
        pub reason: Option<String>,
        /// Why, in words for a person.
        pub detail: Option<String>,
        /// For a duplicate of any kind, the id of the image that was kept.
        pub twin_id: Option<ImageId>,
    }
}

impl SourceRow {
    /// The entry's name for people.
    pub fn shown(&self) -> String {
        shown_source(&self.source, self.source_row)
    }
}

/// A source's name for people: the path, and `#` with the row for an entry of a table.
pub fn shown_source(source: &str, row: Option<u64>) -> String {
    row.map_or_else(|| source.to_owned(), |row| format!("{source}#{row}"))
}
