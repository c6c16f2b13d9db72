//! The `sources` table: all entries that ingest found, each accepted as an image or rejected.

use super::row::table;
use crate::ids::ImageId;

table! {
    /// An entry of the sources: a file, or a row of a Parquet file.
    #[table("sources")]
    pub struct SourceRow {
        /// Path within the source.
        pub source: String,
        /// Row of the source if it is a table, from 0; null for a file.
        pub source_row: Option<u64>,
        /// BLAKE3 digest of its bytes; null if they could not be read.
        pub image_id: Option<ImageId>,
        /// Size in bytes.
        pub size: u64,
        /// Format, recognized by content; null if unknown or if the same bytes were measured under
        /// another name.
        pub format: Option<String>,
        /// Width in pixels of the upright image.
        pub width: Option<u32>,
        /// Height in pixels of the upright image.
        pub height: Option<u32>,
        /// EXIF orientation tag, 1 to 8.
        pub orientation: Option<u32>,
        /// Perceptual hash of 64 bits.
        pub perceptual_hash: Option<u64>,
        /// Reason for the rejection, as a stable code; null if accepted.
        pub reason: Option<String>,
        /// Explanation of the reason for a person.
        pub detail: Option<String>,
        /// For a duplicate of any kind, the id of the image that was kept.
        pub twin_id: Option<ImageId>,
    }
}

impl SourceRow {
    /// Returns the entry's name for messages.
    pub fn display_name(&self) -> String {
        source_display_name(&self.source, self.source_row)
    }
}

/// Returns a source's name for messages: the path, and `#` and the row for an entry of a table.
pub fn source_display_name(source: &str, row: Option<u64>) -> String {
    row.map_or_else(|| source.to_owned(), |row| format!("{source}#{row}"))
}
