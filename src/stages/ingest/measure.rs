//! The measuring step of ingest: decodes every blob once and records format, size, orientation and
//! perceptual hash, or why the blob is not an image. Measurements depend only on the bytes and the
//! limits, so no image is measured twice under the same limits.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::entry::Entry;
use super::fetch::Sources;
use super::{IngestOptions, shard_ranges};
use crate::ids::{Digest, ImageId};
use crate::imaging;
use crate::stages::{ListedRows, Result, Runner, ShardOutput, Stage, TableOutput, new_action, schema};
use crate::store::{Action, Counts, Store};
use crate::tables::Measurement;

/// Version of the measurements.
pub(super) const VERSION: u32 = 1;

/// The measuring stage.
pub(super) struct MeasureStage<'a> {
    pub(super) options: &'a IngestOptions,
    pub(super) sources: &'a Sources<'a>,
    /// Collects the blobs that were measured now and came out dark, reduced to their high bytes.
    pub(super) reduced_to_dark: &'a Mutex<HashSet<Digest>>,
}

/// Blobs that are measured together, with their sizes.
type Shard = ListedRows<(Digest, u64)>;

/// Splits the blobs that are new to the table into shards and stores their listings.
pub(super) fn shards<'e>(
    store: &Store,
    options: &IngestOptions,
    new: impl Iterator<Item = &'e Entry>,
) -> Result<Vec<Shard>> {
    let blobs: Vec<(Digest, u64)> = new.filter_map(|e| Some((e.blob?, e.bytes))).collect();
    shard_ranges(options, blobs.iter().map(|b| b.1))
        .into_par_iter()
        .map(|range| Shard::new(store, blobs[range].to_vec()))
        .collect()
}

impl Stage for MeasureStage<'_> {
    type Shard = Shard;
    const PHASE: &'static str = "measuring images";

    fn action(&self, shard: &Shard) -> Action {
        Action {
            parameters: self.options.measure_parameters(),
            inputs: shard.inputs("blobs"),
            ..new_action("ingest.measure", VERSION, [schema::<Measurement>()])
        }
    }

    fn units(&self, shard: &Shard) -> u64 {
        shard.rows.len() as u64
    }

    fn run_shard(&self, shard: &Shard, runner: &Runner<'_>) -> Result<ShardOutput> {
        let mut rows = Vec::with_capacity(shard.rows.len());
        self.sources.for_each_group(&shard.rows, |blobs| {
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
        let decoded = imaging::decode(bytes, &self.options.limits);
        let (image, error) = (decoded.as_ref().ok(), decoded.as_ref().err());
        if image.is_some_and(|image| image.is_reduced_to_dark) {
            self.reduced_to_dark.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        }
        Measurement {
            image_id: ImageId(id),
            size: bytes.len() as u64,
            format: image.map(|image| image.header.format.name().to_owned()),
            width: image.map(|image| image.header.width()),
            height: image.map(|image| image.header.height()),
            orientation: image.map(|image| u32::from(image.header.orientation.tag())),
            perceptual_hash: image.map(|image| imaging::dhash(&image.pixels).bits()),
            reason: error.map(|e| e.reason().to_owned()),
            detail: error.map(ToString::to_string),
        }
    }
}
