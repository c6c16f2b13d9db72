//! A cache of objects on a node's own disk, shared by the processes of the node.
//!
//! A model is many gigabytes, and each process of a node reads it. With a cache, the node reads it
//! once from the shared file system. A file is named by its digest and enters the cache only if its
//! bytes match; readers check them again. Files that were not used for the longest time go first.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};

use super::error::StoreError;
use super::layout::ObjectId;
use crate::ids::Digest;

/// Size of the blocks in which objects are copied.
const BLOCK: usize = 1 << 20;
/// Ending of the names of files being written.
const PARTIAL: &str = ".partial";
/// Ending of the names of locks.
const LOCK: &str = ".lock";

/// A cache of objects.
#[derive(Debug)]
pub(super) struct NodeCache {
    folder: PathBuf,
    capacity: u64,
}

impl NodeCache {
    /// Opens the cache in a folder, creating it. It holds at most `capacity` bytes.
    pub(super) fn open(folder: &Path, capacity: u64) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(StoreError::io("create the cache", folder))?;
        Ok(Self { folder: folder.to_owned(), capacity })
    }

    /// Returns the path of an object's copy in the cache, after copying it from `source` if it is
    /// not there. `None`: it does not fit, or the cache cannot be used now; read `source`.
    pub(super) fn path_of(&self, object: ObjectId, bytes: u64, source: &Path) -> Option<PathBuf> {
        if bytes > self.capacity {
            return None;
        }
        let path = self.folder.join(object.to_string());
        if self.has(&path, bytes) {
            return Some(path);
        }
        let lock_path = self.folder.join(format!("{object}{LOCK}"));
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).ok()?;
        // The other processes of the node wait for the first one's copy. The lock goes with its
        // holder, however that ends.
        flock(&lock, FlockOperation::LockExclusive).ok()?;
        if self.has(&path, bytes) {
            return Some(path);
        }
        self.make_space(bytes);
        let copied = self.copy(object, source, &path);
        let _ = fs::remove_file(&lock_path);
        copied.ok().filter(|is_intact| *is_intact).map(|_| path)
    }

    /// Removes a copy whose bytes are wrong.
    pub(super) fn remove(&self, object: ObjectId) {
        let _ = fs::remove_file(self.folder.join(object.to_string()));
    }

    /// Whether a copy is there; if so, it counts as used now.
    fn has(&self, path: &Path, bytes: u64) -> bool {
        let Ok(file) = File::open(path) else { return false };
        let is_whole = file.metadata().is_ok_and(|meta| meta.len() == bytes);
        if is_whole {
            let _ = file.set_modified(SystemTime::now());
        }
        is_whole
    }

    /// Copies an object; `false` if its bytes do not match its name.
    fn copy(&self, object: ObjectId, source: &Path, path: &Path) -> io::Result<bool> {
        let partial = self.folder.join(format!("{object}-{}{PARTIAL}", std::process::id()));
        let copy = || {
            let mut from = File::open(source)?;
            let mut to = File::create(&partial)?;
            let (mut hasher, mut block) = (blake3::Hasher::new(), vec![0; BLOCK]);
            loop {
                let n = from.read(&mut block)?;
                if n == 0 {
                    break;
                }
                hasher.update(&block[..n]);
                to.write_all(&block[..n])?;
            }
            let is_intact = Digest::from(hasher.finalize()) == object.digest;
            if is_intact {
                fs::rename(&partial, path)?;
            }
            Ok(is_intact)
        };
        let copied = copy();
        if !matches!(copied, Ok(true)) {
            let _ = fs::remove_file(&partial);
        }
        copied
    }

    /// Removes the files that were not used for the longest time until `bytes` more fit. A process
    /// that has mapped a removed file keeps it.
    fn make_space(&self, bytes: u64) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let meta = entry.metadata().ok()?;
                let is_lock = entry.file_name().to_string_lossy().ends_with(LOCK);
                (meta.is_file() && !is_lock).then_some((meta.modified().ok()?, meta.len(), entry.path()))
            })
            .collect();
        files.sort();
        let mut used: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if used + bytes <= self.capacity {
                return;
            }
            if fs::remove_file(path).is_ok() {
                used -= len;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ObjectKind, Store};

    fn object(store: &Store, bytes: &[u8]) -> (ObjectId, u64, PathBuf) {
        let object = store.put_object(bytes, ObjectKind::Json).expect("an object");
        (object, bytes.len() as u64, store.root().join(object.name()))
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).expect("a folder").count()
    }

    #[test]
    fn an_object_is_copied_once_and_the_least_recently_used_one_goes_first() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(&folder.path().join("store")).expect("a store");
        let place = folder.path().join("cache");
        let cache = NodeCache::open(&place, 250).expect("a cache");
        let objects = [1, 2, 3].map(|n| object(&store, &[n; 100]));
        let path = |(object, bytes, source): &(ObjectId, u64, PathBuf)| cache.path_of(*object, *bytes, source);
        let first = path(&objects[0]).expect("a copy");
        assert_eq!(fs::read(&first).expect("a file"), [1; 100]);
        // Read from the cache: the object is not needed any more.
        fs::remove_file(&objects[0].2).expect("removed");
        assert_eq!(path(&objects[0]), Some(first.clone()));
        let second = path(&objects[1]).expect("a copy");
        let long_ago = SystemTime::now() - std::time::Duration::from_secs(100);
        File::open(&second).and_then(|file| file.set_modified(long_ago)).expect("a time");
        path(&objects[2]).expect("a copy");
        assert!(first.exists() && !second.exists());
        assert_eq!(files(&place), 2);
        assert_eq!(cache.path_of(objects[0].0, 251, &first), None, "larger than the cache");
    }

    #[test]
    fn damaged_bytes_do_not_enter_the_cache() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(&folder.path().join("store")).expect("a store");
        let place = folder.path().join("cache");
        let cache = NodeCache::open(&place, 1000).expect("a cache");
        let (object, bytes, source) = object(&store, b"intact");
        fs::write(&source, b"dented").expect("written");
        assert_eq!(cache.path_of(object, bytes, &source), None);
        assert_eq!(files(&place), 0);
    }

    #[test]
    fn a_copy_that_was_damaged_later_is_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(&folder.path().join("store")).expect("a store");
        let place = folder.path().join("cache");
        let store = store.with_node_cache(&place, 1000).expect("a cache");
        let (object, _, source) = object(&store, b"intact");
        assert_eq!(store.read_object(object).expect("intact"), b"intact");
        let copy = place.join(object.to_string());
        fs::write(&copy, b"dented").expect("written");
        assert_eq!(store.read_object(object).expect("intact"), b"intact");
        assert_eq!(fs::read(&copy).unwrap_or_default(), b"intact");
        // Only the cache has it now.
        fs::remove_file(source).expect("removed");
        assert!(store.read_object(object).is_err(), "the store is asked first");
    }
}
