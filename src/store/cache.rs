//! The cache: notes that save work and may be lost or damaged at any time without harm.

use super::backend::PublishMode;
use super::error::StoreError;
use super::{Store, layout};
use crate::ids::Digest;

impl Store {
    /// A note of the cache; `None` when there is none or it is damaged.
    pub fn read_cache(&self, key: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(bytes) = self.backend.read(&file(key))? else { return Ok(None) };
        Ok(unwrap_note(bytes))
    }

    /// Writes a note down, in place of an older one of the same key.
    pub fn write_cache(&self, key: Digest, note: &[u8]) -> Result<(), StoreError> {
        let mut bytes = Vec::with_capacity(note.len() + 32);
        bytes.extend_from_slice(note);
        bytes.extend_from_slice(Digest::of(note).as_bytes());
        self.put_file(&file(key), &bytes, PublishMode::Replace).map(|_| ())
    }
}

fn file(key: Digest) -> String {
    format!("{}/{key}.sealed", layout::CACHE)
}

/// The note without its digest; `None` when the two do not agree.
pub(super) fn unwrap_note(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let split = bytes.len().checked_sub(32)?;
    let whole = Digest::of(&bytes[..split]).as_bytes() == &bytes[split..];
    bytes.truncate(split);
    whole.then_some(bytes)
}
