//! The digests of image files that the rows of a Parquet file name by their paths.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::entry::Scanner;
use super::fingerprints::Fingerprints;
use super::walk::{WalkedEntry, stat_file};
use crate::ids::Digest;
use crate::stages::linked_file::{reject_link, resolve_link};
use crate::stages::{Rejection, Result};

/// A file that a row names.
#[derive(Debug, Clone)]
pub(super) struct LinkedFile {
    pub(super) path: PathBuf,
    pub(super) digest: Digest,
    pub(super) bytes: u64,
}

/// For each path, its file, or its number of bytes, if known, and why it cannot be read.
pub(super) type LinkedFiles = HashMap<String, Result<LinkedFile, (u64, Rejection)>>;

impl Scanner<'_> {
    /// Returns the digests of the files at `links`, which are relative to `folder`. They are cached
    /// under the path of the `table`.
    ///
    /// # Errors
    /// The command is interrupted, or the store's cache cannot be read.
    pub(super) fn digest_links(&mut self, table: &Path, folder: &Path, links: &BTreeSet<&str>) -> Result<LinkedFiles> {
        let mut files = LinkedFiles::new();
        let mut entries = Vec::new();
        for &link in links {
            match resolve_link(link, folder) {
                Ok(path) => entries.push(WalkedEntry { relative: link.into(), state: stat_file(&path), path }),
                Err(rejection) => {
                    files.insert(link.to_owned(), Err((0, rejection)));
                }
            }
        }
        if entries.is_empty() {
            return Ok(files);
        }
        // No file can have this path, since the table is not a folder.
        let cache_root = table.join("linked images");
        let began_ms = self.cautious_now_ms();
        let cached = Fingerprints::load(self.runner.store, &cache_root)?;
        let digested = self.digest_all(entries, &cached)?;
        self.cache_digests(&digested, &cached, &cache_root, began_ms);
        for file in digested {
            let link = file.entry.relative.to_string_lossy().into_owned();
            let bytes = file.entry.state.as_ref().map_or(0, |(_, bytes)| *bytes);
            let linked = match file.content {
                Ok(content) => {
                    self.scan.read += usize::from(content.was_read);
                    // Files of other kinds have no size limit as sources, but are no images.
                    let limit = self.max_bytes();
                    match bytes <= limit {
                        true => Ok(LinkedFile { path: file.entry.path, digest: content.digest, bytes }),
                        false => Err(Rejection::new("too_large", format!("{bytes} bytes, the limit is {limit}"))),
                    }
                }
                Err(rejection) => Err(rejection),
            };
            let linked = linked.map_err(|rejection| match &*rejection.reason {
                "too_large" => (bytes, Rejection::new("too_large", format!("{link}: {}", rejection.detail))),
                _ => (bytes, reject_link(&link, &rejection.detail)),
            });
            files.insert(link, linked);
        }
        Ok(files)
    }
}
