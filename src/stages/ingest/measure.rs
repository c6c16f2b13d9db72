//! The measuring step of ingest: decodes every blob once and records format, size, orientation and
//! perceptual hash, or why the blob is not an image. Measurements depend only on the bytes and the
//! limits, so no image is measured twice under the same limits.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use serde_json::Value;

use super::entry::Entry;
use super::fetch::Sources;
use super::{IngestOptions, shard_ranges};
use crate::ids::{Digest, ImageId};
use crate::imaging::{self, DecodedImage, ImageError};
use crate::stages::{Runner, ShardOutput, Stage, StageError, TableOutput, new_action, put_listing, schema};
use crate::store::{Action, Counts, Input, ObjectId, Store};
use crate::tables::Measurement;

/// Version of the measurements.
pub(super) const VERSION: u32 = 1;

/// The measuring stage.
pub(super) struct MeasureStage<'a> {
    pub(super) options: &'a IngestOptions,
    pub(super) sources: &'a Sources<'a>,
    /// Collects the blobs that were measured now and are dark images of deep grey.
    pub(super) dark_deep_grey: &'a Mutex<HashSet<Digest>>,
}

/// Blobs that are measured together.
pub(super) struct Shard {
    blobs: Vec<(Digest, u64)>,
    listing: ObjectId,
}

/// Splits the blobs that are new to the table into shards and stores their listings.
pub(super) fn shards<'e>(
    store: &Store,
    options: &IngestOptions,
    new: impl Iterator<Item = &'e Entry>,
) -> Result<Vec<Shard>, StageError> {
    let blobs: Vec<(Digest, u64)> = new.filter_map(|e| Some((e.blob?, e.bytes))).collect();
    shard_ranges(options, blobs.iter().map(|b| b.1))
        .into_par_iter()
        .map(|range| {
            let blobs = blobs[range].to_vec();
            Ok(Shard { listing: put_listing(store, &blobs)?, blobs })
        })
        .collect()
}

impl Stage for MeasureStage<'_> {
    type Shard = Shard;

    fn phase(&self) -> &'static str {
        "measuring images"
    }

    fn action(&self, shard: &Shard) -> Action {
        let limits = &self.options.limits;
        Action {
            parameters: BTreeMap::from([
                ("max_bytes".into(), Value::from(limits.max_bytes)),
                ("max_pixels".into(), Value::from(limits.max_pixels)),
                ("max_aspect_ratio".into(), Value::from(limits.max_aspect_ratio)),
            ]),
            inputs: vec![Input { role: "blobs".into(), object: shard.listing }],
            ..new_action("ingest.measure", VERSION, [schema::<Measurement>()])
        }
    }

    fn units(&self, shard: &Shard) -> u64 {
        shard.blobs.len() as u64
    }

    fn run_shard(&self, shard: &Shard, runner: &Runner<'_>) -> Result<ShardOutput, StageError> {
        let mut rows = Vec::with_capacity(shard.blobs.len());
        self.sources.for_each_group(&shard.blobs, |blobs| {
            runner.interrupt.check()?;
            let measured = blobs.into_par_iter().map(|(id, bytes)| self.measure(id, &bytes));
            rows.extend(measured.collect::<Vec<_>>());
            Ok(())
        })?;
        runner.progress.advance(rows.len() as u64);
        let n = rows.len() as u64;
        let outputs = vec![TableOutput::write_all(runner.store, rows)?];
        Ok(ShardOutput { outputs, counts: Counts { rows_in: n, rows_out: n, rejects: 0 }, ..ShardOutput::default() })
    }
}

impl MeasureStage<'_> {
    fn measure(&self, id: Digest, bytes: &[u8]) -> Measurement {
        let row = Measurement {
            image_id: ImageId(id),
            size: bytes.len() as u64,
            format: None,
            width: None,
            height: None,
            orientation: None,
            perceptual_hash: None,
            reason: None,
            detail: None,
        };
        match imaging::decode(bytes, &self.options.limits) {
            Ok(decoded) => {
                if decoded.is_dark_deep_grey {
                    self.dark_deep_grey.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
                }
                accept(row, &decoded)
            }
            Err(e) => reject(row, &e),
        }
    }
}

fn accept(row: Measurement, decoded: &DecodedImage) -> Measurement {
    let header = &decoded.header;
    Measurement {
        format: Some(header.format.name().to_owned()),
        width: Some(header.width()),
        height: Some(header.height()),
        orientation: Some(u32::from(header.orientation.tag())),
        perceptual_hash: Some(imaging::dhash(&decoded.pixels).bits()),
        ..row
    }
}

fn reject(row: Measurement, e: &ImageError) -> Measurement {
    Measurement { reason: Some(e.reason().to_owned()), detail: Some(e.to_string()), ..row }
}
