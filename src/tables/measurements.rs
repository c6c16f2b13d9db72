//! `measurements`: what each file is, by its bytes alone; ingest's working notes.

use super::row::table;
use crate::ids::ImageId;

table! {
    /// The bytes of a file as an image, or why they are none.
    #[table("measurements")]
    pub struct Measurement {
        /// The blake3 digest of the bytes.
        pub image_id: ImageId,
        /// Length in bytes.
        pub size: u64,
        /// The format by content; null when rejected.
        pub format: Option<String>,
        /// Width in pixels of the upright image.
        pub width: Option<u32>,
        /// Height in pixels of the upright image.
        pub height: Option<u32>,
        /// The EXIF orientation tag, 1 to 8.
        pub orientation: Option<u32>,
        /// The perceptual hash, 64 bits.
        pub perceptual_hash: Option<u64>,
        /// Why it is no image that can be used, as a stable word; null when accepted.
        pub reason: Option<String>,
        /// Why, in words for a person.
        pub detail: Option<String>,
    }
}
