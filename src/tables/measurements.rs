//! The `measurements` table: properties of each file's bytes, an intermediate result of ingest.

use super::row::table;
use crate::ids::ImageId;

table! {
    /// Image properties of a file's bytes, or the reason why they are rejected.
    #[table("measurements")]
    pub struct Measurement {
        /// BLAKE3 digest of the bytes.
        pub image_id: ImageId,
        /// Size in bytes.
        pub size: u64,
        /// Format, recognized by content; null if rejected.
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
    }
}
