//! Fetch: the bytes of blobs from where the scan found them, checked against their digests.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;

use super::rows;
use super::scan::Origin;
use crate::ids::Digest;
use crate::stages::StageError;

/// How many bytes of source files one shard holds in memory at a time, one blob at least.
const GROUP_BYTES: u64 = 16 << 20;
/// How many blobs one shard holds at a time.
const GROUP_BLOBS: usize = 64;

/// Where blobs can be had on this machine.
pub(super) struct Sources<'a> {
    pub(super) origins: &'a HashMap<Digest, Origin>,
    /// The largest cell read from a Parquet file.
    pub(super) max_bytes: u64,
}

impl Sources<'_> {
    /// Hands blobs over in order, a group at a time.
    ///
    /// # Errors
    /// [`StageError::SourceChanged`] names the sources whose bytes are gone or no longer what the scan found.
    pub(super) fn for_each_group(
        &self,
        blobs: &[(Digest, u64)],
        mut work: impl FnMut(Vec<(Digest, Vec<u8>)>) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        let mut rest = blobs;
        while !rest.is_empty() {
            let (group, after) = rest.split_at(group_len(rest));
            work(self.fetch(group)?)?;
            rest = after;
        }
        Ok(())
    }

    fn fetch(&self, group: &[(Digest, u64)]) -> Result<Vec<(Digest, Vec<u8>)>, StageError> {
        let mut cells = self.fetch_cells(group);
        let fetched: Vec<Result<(Digest, Vec<u8>), String>> = group
            .iter()
            .map(|(blob, _)| (*blob, cells.remove(blob)))
            .collect::<Vec<_>>()
            .into_par_iter()
            .map(|(blob, cell)| self.check(blob, cell))
            .collect();
        let changed: Vec<String> = fetched.iter().filter_map(|f| f.as_ref().err().cloned()).collect();
        if !changed.is_empty() {
            return Err(StageError::SourceChanged { labels: changed });
        }
        Ok(fetched.into_iter().flatten().collect())
    }

    /// The bytes of a blob, or the name of the source that no longer has them.
    fn check(&self, blob: Digest, cell: Option<Vec<u8>>) -> Result<(Digest, Vec<u8>), String> {
        let (bytes, path) = match (self.origins.get(&blob), cell) {
            (Some(Origin::File(path)), _) => (std::fs::read(path).ok(), path),
            (Some(Origin::Cell { file, .. }), cell) => (cell, file),
            (None, _) => return Err(blob.to_string()),
        };
        let whole = bytes.filter(|bytes| Digest::of(bytes) == blob);
        whole.map(|bytes| (blob, bytes)).ok_or_else(|| path.display().to_string())
    }

    /// The cells of a group, each Parquet file of it read once.
    fn fetch_cells(&self, group: &[(Digest, u64)]) -> HashMap<Digest, Vec<u8>> {
        let mut wanted: Vec<(&Path, &Option<String>, rows::Place, Digest)> = Vec::new();
        for (blob, _) in group {
            if let Some(Origin::Cell { file, column, place }) = self.origins.get(blob) {
                wanted.push((file, column, *place, *blob));
            }
        }
        wanted.sort_by_key(|w| (w.0, w.2));
        let mut cells = HashMap::with_capacity(wanted.len());
        for run in wanted.chunk_by(|a, b| a.0 == b.0) {
            let places: Vec<(rows::Place, Digest)> = run.iter().map(|w| (w.2, w.3)).collect();
            rows::read_cells(run[0].0, run[0].1.as_deref(), self.max_bytes, &places, &mut cells);
        }
        cells
    }
}

fn group_len(blobs: &[(Digest, u64)]) -> usize {
    let mut bytes = 0;
    let fits = |(_, size): &&(Digest, u64)| {
        bytes += size;
        bytes <= GROUP_BYTES
    };
    blobs.iter().take(GROUP_BLOBS).take_while(fits).count().max(1)
}
