//! `[ingest]`: sources, limits and shards of the images table.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::imaging::{Limits, NearDuplicates};
use crate::stages::ingest::IngestOptions;

/// The settings of ingest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ingest {
    /// Folders, image files and Parquet files to ingest when an evolution has no images yet and the
    /// command line names none.
    pub sources: Vec<PathBuf>,
    /// Maximum size of a file, in bytes; larger files are rejected unread.
    pub max_bytes: u64,
    /// Maximum number of pixels; larger images are rejected by their header, before decoding.
    pub max_pixels: u64,
    /// Maximum ratio of the longer to the shorter side.
    pub max_aspect_ratio: u32,
    /// Maximum Hamming distance of the 64-bit perceptual hashes of near duplicates, 0 to 16.
    /// Without it only files of equal bytes are duplicates.
    pub near_duplicate_bits: Option<u32>,
    /// Maximum number of images in a shard.
    pub shard_rows: u32,
    /// Size in bytes at which a shard ends, with the image that reaches it.
    pub shard_bytes: u64,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            max_bytes: 64 << 20,
            max_pixels: 89_478_485,
            max_aspect_ratio: 200,
            near_duplicate_bits: None,
            shard_rows: 1024,
            shard_bytes: 64 << 20,
        }
    }
}

impl Ingest {
    /// Converts to the options of the ingest stage.
    pub fn options(&self) -> IngestOptions {
        IngestOptions {
            limits: Limits {
                max_bytes: self.max_bytes,
                max_pixels: self.max_pixels,
                max_aspect_ratio: self.max_aspect_ratio,
            },
            near_duplicate_bits: self.near_duplicate_bits,
            shard_rows: self.shard_rows as usize,
            shard_bytes: self.shard_bytes,
        }
    }

    /// Returns each count with its key and its valid range.
    pub(super) fn ranges(&self) -> [(&'static str, u64, RangeInclusive<u64>); 6] {
        [
            ("ingest.max_bytes", self.max_bytes, 1..=1 << 30),
            ("ingest.max_pixels", self.max_pixels, 1..=1 << 32),
            ("ingest.max_aspect_ratio", u64::from(self.max_aspect_ratio), 1..=u64::from(u32::MAX)),
            (
                "ingest.near_duplicate_bits",
                u64::from(self.near_duplicate_bits.unwrap_or(0)),
                0..=u64::from(NearDuplicates::MAX_THRESHOLD),
            ),
            ("ingest.shard_rows", u64::from(self.shard_rows), 1..=1 << 20),
            ("ingest.shard_bytes", self.shard_bytes, 1..=1 << 30),
        ]
    }
}
