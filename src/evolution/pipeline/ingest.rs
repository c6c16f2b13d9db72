//! `[ingest]`: sources, limits and shards of the images table.

use std::path::PathBuf;

use super::section::section;
use crate::imaging::Limits;
use crate::stages::ingest::IngestOptions;

section! {
    /// The settings of ingest.
    pub struct Ingest {
        /// Folders, image files, Parquet files and archives to ingest when an evolution has no
        /// images yet and the command line names none.
        pub sources: Vec<PathBuf> = Vec::new(),
        /// Maximum size of a file, in bytes; larger files are rejected unread.
        pub max_bytes: u64 = 64 << 20,
        /// Maximum number of pixels; larger images are rejected by their header, before decoding.
        pub max_pixels: u64 = 89_478_485,
        /// Maximum ratio of the longer to the shorter side.
        pub max_aspect_ratio: u32 = 200,
        /// Maximum Hamming distance of the 64-bit perceptual hashes of near duplicates, 0 to 16.
        /// Without it only files of equal bytes are duplicates.
        pub near_duplicate_bits: Option<u32> = None,
        /// Maximum number of images in a shard.
        pub shard_rows: u32 = 1024,
        /// Size in bytes at which a shard ends, with the image that reaches it.
        pub shard_bytes: u64 = 64 << 20,
    }
}

impl Ingest {
    /// Converts to the options of the ingest stage.
    pub fn options(&self) -> IngestOptions {
        let Self { max_bytes, max_pixels, max_aspect_ratio, .. } = *self;
        IngestOptions {
            limits: Limits { max_bytes, max_pixels, max_aspect_ratio },
            near_duplicate_bits: self.near_duplicate_bits,
            shard_rows: self.shard_rows as usize,
            shard_bytes: self.shard_bytes,
        }
    }
}
