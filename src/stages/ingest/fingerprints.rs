//! What is known of files that were read before: a note in the store's cache, so that an unchanged file is not read again.
//!
//! A file counts as unchanged when its size, inode, and times of modification and of status change are what they were. A
//! file whose times are within [`RACY`] of the reading is not noted: it could change once more without its times showing it.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::ids::Digest;
use crate::stages::StageError;
use crate::store::{Store, now_ms};

/// How close to the reading a change may hide.
const RACY_MS: i128 = 2_000;

/// What tells one state of a file from another.
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

    fn is_settled(&self, now_ms: u64) -> bool {
        let newest_ms = self.modified_ns.max(self.changed_ns) / 1_000_000;
        newest_ms + RACY_MS < i128::from(now_ms)
    }
}

/// The digests of the files below one source, by path relative to it.
#[derive(Debug, Default)]
pub(super) struct Fingerprints {
    known: HashMap<PathBuf, (Fingerprint, Digest)>,
}

impl Fingerprints {
    /// What the store knows of a source; nothing when it knows nothing or the note is damaged.
    pub(super) fn load(store: &Store, root: &Path) -> Result<Self, StageError> {
        let note = store.cached(note_key(root))?.unwrap_or_default();
        let mut known = HashMap::with_capacity(note.len() / 128);
        let mut rest = note.as_slice();
        while let Some((path, fingerprint, digest)) = read_line(&mut rest) {
            known.insert(path, (fingerprint, digest));
        }
        Ok(Self { known })
    }

    /// The digest of a file that has not changed since it was read.
    pub(super) fn get(&self, path: &Path, now: Fingerprint) -> Option<Digest> {
        self.known.get(path).filter(|(then, _)| *then == now).map(|(_, digest)| *digest)
    }

    /// Writes down what is known of a source now.
    pub(super) fn save(
        store: &Store,
        root: &Path,
        files: impl Iterator<Item = (PathBuf, Fingerprint, Digest)>,
    ) -> Result<(), StageError> {
        let now = now_ms();
        let mut note = Vec::new();
        for (path, fingerprint, digest) in files.filter(|(_, f, _)| f.is_settled(now)) {
            write_line(&mut note, &path, fingerprint, digest);
        }
        store.cache(note_key(root), &note)?;
        Ok(())
    }

    /// How many files are known.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

/// The name of a source's note. The path is the host's own, and stays out of every action and result.
fn note_key(root: &Path) -> Digest {
    Digest::derive("visplay 2026-11 file fingerprints v1", &[root.as_os_str().as_bytes()])
}

fn write_line(note: &mut Vec<u8>, path: &Path, f: Fingerprint, digest: Digest) {
    let path = path.as_os_str().as_bytes();
    note.extend_from_slice(&(path.len() as u32).to_le_bytes());
    note.extend_from_slice(path);
    note.extend_from_slice(&f.size.to_le_bytes());
    note.extend_from_slice(&f.inode.to_le_bytes());
    note.extend_from_slice(&f.modified_ns.to_le_bytes());
    note.extend_from_slice(&f.changed_ns.to_le_bytes());
    note.extend_from_slice(digest.as_bytes());
}

fn read_line(rest: &mut &[u8]) -> Option<(PathBuf, Fingerprint, Digest)> {
    let length = u32::from_le_bytes(take(rest)?) as usize;
    let (path, after) = rest.split_at_checked(length)?;
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
    *rest = after;
    let size = u64::from_le_bytes(take(rest)?);
    let inode = u64::from_le_bytes(take(rest)?);
    let modified_ns = i128::from_le_bytes(take(rest)?);
    let changed_ns = i128::from_le_bytes(take(rest)?);
    let digest = Digest::from_bytes(take(rest)?);
    Some((path, Fingerprint { size, inode, modified_ns, changed_ns }, digest))
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
    fn what_is_written_is_read() {
        let mut note = Vec::new();
        let f = Fingerprint { size: 1, inode: 2, modified_ns: -3, changed_ns: 4 };
        write_line(&mut note, Path::new("a/b\nc"), f, Digest::of(b"x"));
        write_line(&mut note, Path::new(""), f, Digest::of(b"y"));
        let mut rest = note.as_slice();
        assert_eq!(read_line(&mut rest), Some((PathBuf::from("a/b\nc"), f, Digest::of(b"x"))));
        assert_eq!(read_line(&mut rest), Some((PathBuf::new(), f, Digest::of(b"y"))));
        assert_eq!(read_line(&mut rest), None);
        for cut in 0..note.len() {
            let mut rest = &note[..cut];
            while read_line(&mut rest).is_some() {}
        }
    }

    #[test]
    fn a_fresh_file_is_not_trusted() {
        let f = Fingerprint { size: 1, inode: 2, modified_ns: 5_000_000_000, changed_ns: 5_000_000_000 };
        assert!(!f.is_settled(6_000));
        assert!(f.is_settled(7_001));
    }
}
