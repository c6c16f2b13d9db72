//! Source files that hold many images: Parquet files and archives. Their contents are cached.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entry::Scanner;
use super::fingerprints::Fingerprint;
use crate::ids::Digest;
use crate::stages::{Result, StageError};
use crate::store::StoreError;

/// A Parquet file or an archive among the sources.
#[derive(Clone, Copy)]
pub(super) struct ContainerFile<'a> {
    pub(super) path: &'a Path,
    /// Folder that paths in its rows are relative to.
    pub(super) folder: &'a Path,
    pub(super) label: &'a str,
    /// Digest of its bytes.
    pub(super) digest: Digest,
    /// Fingerprint of the file when its bytes were read.
    pub(super) state: Option<Fingerprint>,
}

impl ContainerFile<'_> {
    /// Returns an error if the file has changed since its digest was computed.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        let now = self.path.metadata().ok().map(|meta| Fingerprint::of(&meta));
        if now.is_some() && now == self.state {
            return Ok(());
        }
        Err(StageError::SourceChanged { labels: vec![self.path.display().to_string()] })
    }
}

impl Scanner<'_> {
    /// Reads the contents of a file that are cached under `key`.
    pub(super) fn read_contents<T: DeserializeOwned>(&self, key: Digest) -> Result<Option<T>> {
        let entry = self.runner.store.read_cache(key)?;
        Ok(entry.and_then(|entry| serde_json::from_slice(&entry).ok()))
    }

    /// Caches the contents of a file under `key`.
    pub(super) fn cache_contents(&self, key: Digest, contents: &impl Serialize) {
        let entry = crate::canonical::to_canonical(contents).map_err(StoreError::from);
        if let Err(e) = entry.and_then(|entry| self.runner.store.write_cache(key, &entry)) {
            let problem = "cannot cache the contents of a source file, so they will be read again next time";
            self.runner.progress.say(&format!("{problem}: {e}"));
        }
    }
}
