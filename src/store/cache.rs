//! Cache entries that save repeated work. A lost or damaged entry is only recomputed.

use super::backend::PublishMode;
use super::error::StoreError;
use super::{Store, layout};
use crate::ids::Digest;

impl Store {
    /// Reads a cache entry; `None` if it is missing or damaged.
    pub fn read_cache(&self, key: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.backend.refresh(layout::CACHE);
        let Some(bytes) = self.backend.read(&entry_path(key))? else { return Ok(None) };
        Ok(strip_checksum(bytes))
    }

    /// Writes a cache entry, replacing an older one with the same key.
    pub fn write_cache(&self, key: Digest, entry: &[u8]) -> Result<(), StoreError> {
        let mut bytes = Vec::with_capacity(entry.len() + 32);
        bytes.extend_from_slice(entry);
        bytes.extend_from_slice(Digest::of(entry).as_bytes());
        self.put_file(&entry_path(key), &bytes, PublishMode::Replace).map(|_| ())
    }
}

fn entry_path(key: Digest) -> String {
    format!("{}/{key}.sealed", layout::CACHE)
}

/// Strips the digest from the end of a cache entry; `None` if it does not match.
pub(super) fn strip_checksum(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let split = bytes.len().checked_sub(32)?;
    let intact = Digest::of(&bytes[..split]).as_bytes() == &bytes[split..];
    bytes.truncate(split);
    intact.then_some(bytes)
}
