//! `[ingest]`: what becomes an image.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::imaging::{Limits, NearDuplicates};
use crate::stages::ingest::IngestOptions;

/// The knobs of ingest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ingest {
    /// What is ingested when an evolution has no images yet and the command names none: folders, image files, Parquet files,
    /// relative to the working folder.
    pub sources: Vec<PathBuf>,
    /// A file larger than this is rejected unread, in bytes.
    pub max_bytes: u64,
    /// An image of more pixels is rejected by its header, before it is decoded.
    pub max_pixels: u64,
    /// The most times that the longer side may be the shorter.
    pub max_aspect_ratio: u32,
    /// The largest Hamming distance of 64-bit perceptual hashes at which images count as the same, 0 to 16; without it only
    /// files of equal bytes do.
    pub near_duplicate_bits: Option<u32>,
    /// The most images of a shard.
    pub shard_rows: u32,
    /// A shard ends with the image that reaches this many bytes.
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
    /// The options as the stage takes them.
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
    /// The numbers whose range is checked.
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
