//! Fingerprints of source files in the store's cache, so that unchanged files are not read again.
//!
//! A file counts as unchanged when its size, inode, modification time and status-change time are
//! equal. A file that changed within [`RACY_MS`] before the scan is not cached: it could change
//! once more without a visible change of its times.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::file_kind::FileKind;
use crate::ids::Digest;
use crate::stages::Result;
use crate::store::Store;

/// Time in milliseconds within which a second change may be invisible.
const RACY_MS: i128 = 2_000;

/// The state of a file, without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    size: u64,
    inode: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Fingerprint {
    pub(super) fn of(meta: &Metadata) -> Self {
        let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Self {
            size: meta.len(),
            inode: meta.ino(),
            modified_ns: ns(meta.mtime(), meta.mtime_nsec()),
            changed_ns: ns(meta.ctime(), meta.ctime_nsec()),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    fn is_settled(&self, now_ms: u64) -> bool {
        let newest_ms = self.modified_ns.max(self.changed_ns) / 1_000_000;
        newest_ms + RACY_MS < i128::from(now_ms)
    }
}

/// The digests of the files below one source, by path relative to it.
#[derive(Debug, Default)]
pub(super) struct Fingerprints {
    known: HashMap<PathBuf, (Fingerprint, Digest, FileKind)>,
}

impl Fingerprints {
    /// Loads the cached digests of a source; no digests if the cache entry is missing or damaged.
    pub(super) fn load(store: &Store, root: &Path) -> Result<Self> {
        let bytes = store.read_cache(cache_key(root))?.unwrap_or_default();
        let mut rest = bytes.as_slice();
        let lines = std::iter::from_fn(|| read_line(&mut rest));
        let known = lines.map(|(path, fingerprint, digest, kind)| (path, (fingerprint, digest, kind)));
        Ok(Self { known: known.collect() })
    }

    /// Returns the digest of a file unchanged since it was read, and its kind.
    pub(super) fn get(&self, path: &Path, current: Fingerprint) -> Option<(Digest, FileKind)> {
        let (cached, digest, kind) = self.known.get(path)?;
        (*cached == current).then_some((*digest, *kind))
    }

    /// Caches the digests of a source whose scan began at `began_ms`, except those of files that
    /// changed after that or shortly before.
    pub(super) fn save(
        store: &Store,
        root: &Path,
        began_ms: u64,
        files: impl Iterator<Item = (PathBuf, Fingerprint, Digest, FileKind)>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        for (path, fingerprint, digest, kind) in files.filter(|(_, f, ..)| f.is_settled(began_ms)) {
            write_line(&mut bytes, &path, fingerprint, digest, kind);
        }
        store.write_cache(cache_key(root), &bytes)?;
        Ok(())
    }

    /// Returns the number of cached files.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

/// Returns the cache key of a source. The path differs between machines, so it is part of no action
/// or result.
fn cache_key(root: &Path) -> Digest {
    Digest::derive("visplay 2026-11 file fingerprints v3", &[root.as_os_str().as_bytes()])
}

fn write_line(bytes: &mut Vec<u8>, path: &Path, f: Fingerprint, digest: Digest, kind: FileKind) {
    let path = path.as_os_str().as_bytes();
    bytes.extend_from_slice(&(path.len() as u32).to_le_bytes());
    bytes.extend_from_slice(path);
    bytes.extend_from_slice(&f.size.to_le_bytes());
    bytes.extend_from_slice(&f.inode.to_le_bytes());
    bytes.extend_from_slice(&f.modified_ns.to_le_bytes());
    bytes.extend_from_slice(&f.changed_ns.to_le_bytes());
    bytes.extend_from_slice(digest.as_bytes());
    bytes.push(kind.to_byte());
}

fn read_line(rest: &mut &[u8]) -> Option<(PathBuf, Fingerprint, Digest, FileKind)> {
    let length = u32::from_le_bytes(take(rest)?) as usize;
    let (path, after) = rest.split_at_checked(length)?;
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
    *rest = after;
    let size = u64::from_le_bytes(take(rest)?);
    let inode = u64::from_le_bytes(take(rest)?);
    let modified_ns = i128::from_le_bytes(take(rest)?);
    let changed_ns = i128::from_le_bytes(take(rest)?);
    let digest = Digest::from_bytes(take(rest)?);
    let [kind] = take(rest)?;
    Some((path, Fingerprint { size, inode, modified_ns, changed_ns }, digest, FileKind::from_byte(kind)?))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_lines_can_be_read() {
        let mut bytes = Vec::new();
        let f = Fingerprint { size: 1, inode: 2, modified_ns: -3, changed_ns: 4 };
        write_line(&mut bytes, Path::new("a/b\nc"), f, Digest::of(b"x"), FileKind::TarGz);
        write_line(&mut bytes, Path::new(""), f, Digest::of(b"y"), FileKind::Single);
        let mut rest = bytes.as_slice();
        assert_eq!(read_line(&mut rest), Some((PathBuf::from("a/b\nc"), f, Digest::of(b"x"), FileKind::TarGz)));
        assert_eq!(read_line(&mut rest), Some((PathBuf::new(), f, Digest::of(b"y"), FileKind::Single)));
        assert_eq!(read_line(&mut rest), None);
        for cut in 0..bytes.len() {
            let mut rest = &bytes[..cut];
            while read_line(&mut rest).is_some() {}
        }
    }

    #[test]
    fn a_recently_changed_file_is_not_cached() {
        let f = Fingerprint { size: 1, inode: 2, modified_ns: 5_000_000_000, changed_ns: 5_000_000_000 };
        assert!(!f.is_settled(6_000));
        assert!(f.is_settled(7_001));
    }
}
