//! The reader of blobs from the sources, which checks their digests.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use rayon::prelude::*;

use super::archive::{read_member, read_streamed};
use super::entry::{Encoding, MemberPosition, Origin};
use super::parquet::CellReader;
use crate::ids::Digest;
use crate::stages::{Result, StageError};

/// Maximum number of bytes of blobs that one shard holds in memory at once; one blob at least.
/// Those of its blobs that are in compressed archives are held on top of it, all at once.
const GROUP_BYTES: u64 = 16 << 20;
/// Maximum number of blobs that one shard holds in memory.
const GROUP_BLOBS: usize = 64;

/// The locations of blobs on this machine.
pub(super) struct Sources<'a> {
    pub(super) origins: &'a HashMap<Digest, Origin>,
    /// Maximum size of a cell of a Parquet file, and of a member of an archive.
    pub(super) max_bytes: u64,
}

impl Sources<'_> {
    /// Reads blobs in order and passes them to `work` in groups. Those in compressed archives are
    /// all read before the first group, so that each archive is decompressed only once.
    ///
    /// # Errors
    /// [`StageError::SourceChanged`] names the sources whose bytes have changed since the scan.
    pub(super) fn for_each_group(
        &self,
        blobs: &[(Digest, u64)],
        mut work: impl FnMut(Vec<(Digest, Vec<u8>)>) -> Result<()>,
    ) -> Result<()> {
        let mut rest = blobs;
        let mut cells = CellReader::new(self.max_bytes);
        let mut streamed = self.read_streamed(blobs);
        while !rest.is_empty() {
            let (group, after) = rest.split_at(group_len(rest));
            work(self.fetch(group, &mut cells, &mut streamed)?)?;
            rest = after;
        }
        Ok(())
    }

    /// Reads those blobs that are in compressed archives.
    fn read_streamed(&self, blobs: &[(Digest, u64)]) -> HashMap<Digest, Vec<u8>> {
        let mut archives: BTreeMap<&Path, Vec<(Digest, MemberPosition)>> = BTreeMap::new();
        for (blob, _) in blobs {
            if let Some(Origin::Member { file, position }) = self.origins.get(blob)
                && position.encoding == Encoding::Gzip
            {
                archives.entry(file).or_default().push((*blob, *position));
            }
        }
        archives.into_iter().flat_map(|(file, members)| read_streamed(file, members, self.max_bytes)).collect()
    }

    fn fetch(
        &self,
        group: &[(Digest, u64)],
        cells: &mut CellReader,
        streamed: &mut HashMap<Digest, Vec<u8>>,
    ) -> Result<Vec<(Digest, Vec<u8>)>> {
        // Cells come from one reader, in order. Files are read and digests checked on all threads.
        let read_cell = |(blob, _): &(Digest, u64)| match self.origins.get(blob) {
            Some(Origin::Cell { file, column, position }) => (*blob, cells.read(file, column.as_deref(), *position)),
            _ => (*blob, streamed.remove(blob)),
        };
        let cell_bytes: Vec<(Digest, Option<Vec<u8>>)> = group.iter().map(read_cell).collect();
        let fetched: Vec<Result<(Digest, Vec<u8>), String>> =
            cell_bytes.into_par_iter().map(|(blob, cell)| self.check(blob, cell)).collect();
        let changed: Vec<String> = fetched.iter().filter_map(|f| f.as_ref().err().cloned()).collect();
        if !changed.is_empty() {
            return Err(StageError::SourceChanged { labels: changed });
        }
        Ok(fetched.into_iter().flatten().collect())
    }

    /// Returns the bytes of a blob, or the name of the source that no longer has them.
    fn check(&self, blob: Digest, cell: Option<Vec<u8>>) -> Result<(Digest, Vec<u8>), String> {
        let (bytes, path) = match (self.origins.get(&blob), cell) {
            (Some(Origin::File(path)), _) => (std::fs::read(path).ok(), path),
            (Some(Origin::Member { file, position }), None) if position.encoding != Encoding::Gzip => {
                (read_member(file, *position, self.max_bytes), file)
            }
            (Some(Origin::Cell { file, .. } | Origin::Member { file, .. }), cell) => (cell, file),
            (None, _) => return Err(blob.to_string()),
        };
        let unchanged = bytes.filter(|bytes| Digest::of(bytes) == blob);
        unchanged.map(|bytes| (blob, bytes)).ok_or_else(|| path.display().to_string())
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
