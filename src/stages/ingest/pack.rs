//! The packing step of ingest: writes the accepted images with their original bytes into shards of
//! the `images` table.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fetch::Sources;
use super::{IngestOptions, shard_ranges};
use crate::ids::Digest;
use crate::stages::{Result, Runner, ShardOutput, Stage, StageError, TableOutput, new_action, schema};
use crate::store::{Action, ActionKey, Counts, Input, ObjectId, StoreError};
use crate::tables::{ImageFile, ImageRow, SourceRow};

/// Version of the packed tables.
pub(super) const VERSION: u32 = 1;

/// The packing stage.
pub(super) struct PackStage<'a> {
    pub(super) sources: &'a Sources<'a>,
    /// Object with the decided rows, accepted and rejected ones.
    pub(super) decided: ObjectId,
    /// Key of the result that holds them.
    pub(super) selection: ActionKey,
}

/// Images that are packed together.
pub(super) struct Shard<'a> {
    rows: Vec<&'a SourceRow>,
    /// Its range among the accepted rows of `decided`.
    range: std::ops::Range<usize>,
}

/// Splits the accepted rows into shards.
pub(super) fn shards<'a>(options: &IngestOptions, decided: &'a [SourceRow]) -> Vec<Shard<'a>> {
    let accepted: Vec<&SourceRow> = decided.iter().filter(|row| row.reason.is_none()).collect();
    let ranges = shard_ranges(options, accepted.iter().map(|row| row.size));
    ranges.into_iter().map(|range| Shard { rows: accepted[range.clone()].to_vec(), range }).collect()
}

impl<'a> Stage for PackStage<'a> {
    type Shard = Shard<'a>;
    const PHASE: &'static str = "storing images";

    fn action(&self, shard: &Shard<'a>) -> Action {
        Action {
            inputs: vec![Input { role: "sources".into(), object: self.decided }],
            shard: BTreeMap::from([
                ("from".into(), Value::from(shard.range.start)),
                ("to".into(), Value::from(shard.range.end)),
            ]),
            ..new_action("ingest.pack", VERSION, [schema::<ImageRow>()])
        }
    }

    fn units(&self, shard: &Shard<'a>) -> u64 {
        shard.rows.len() as u64
    }

    fn run_shard(&self, shard: &Shard<'a>, runner: &Runner<'_>) -> Result<ShardOutput> {
        let blobs: Vec<(Digest, u64)> = shard.rows.iter().filter_map(|row| Some((row.image_id?.0, row.size))).collect();
        let mut out = TableOutput::<ImageRow>::new(runner.store)?;
        let mut rows = shard.rows.iter();
        self.sources.for_each_group(&blobs, |group| {
            runner.interrupt.check()?;
            for ((_, bytes), row) in group.into_iter().zip(&mut rows) {
                out.push(image_row(row, bytes)?)?;
            }
            Ok(())
        })?;
        let output = out.finish(runner.store)?;
        runner.progress.advance(output.rows);
        let counts = Counts { rows_in: shard.rows.len() as u64, rows_out: output.rows, rejects: 0 };
        Ok(ShardOutput { outputs: vec![output], counts, upstream: vec![self.selection], ..ShardOutput::default() })
    }
}

fn image_row(row: &SourceRow, bytes: Vec<u8>) -> Result<ImageRow> {
    let missing_column = |column: &str| {
        let problem = format!("the accepted source {} has no {column}", row.source);
        StageError::Store(StoreError::Damaged { name: "the sources table".into(), problem })
    };
    Ok(ImageRow {
        image_id: row.image_id.ok_or_else(|| missing_column("image id"))?,
        size: row.size,
        image: ImageFile { bytes, path: row.source.clone() },
        width: row.width.ok_or_else(|| missing_column("width"))?,
        height: row.height.ok_or_else(|| missing_column("height"))?,
        format: row.format.clone().ok_or_else(|| missing_column("format"))?,
        orientation: row.orientation.ok_or_else(|| missing_column("orientation"))?,
        perceptual_hash: row.perceptual_hash.ok_or_else(|| missing_column("perceptual hash"))?,
        source: row.source.clone(),
        source_row: row.source_row,
    })
}
