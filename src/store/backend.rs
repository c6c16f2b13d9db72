//! Interface to the storage of the store's files, small enough for an object store to implement.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use super::error::StoreError;
use crate::ids::Digest;

/// A file being written. It is invisible until published, and removed if dropped before.
#[derive(Debug)]
pub struct StagedFile {
    file: Option<File>,
    path: PathBuf,
    hasher: blake3::Hasher,
    len: u64,
}

impl StagedFile {
    pub(super) fn new(file: File, path: PathBuf) -> Self {
        Self { file: Some(file), path, hasher: blake3::Hasher::new(), len: 0 }
    }

    /// Returns the digest and the number of bytes written so far.
    pub fn digest(&self) -> (Digest, u64) {
        (Digest::from(self.hasher.finalize()), self.len)
    }

    /// Closes the file, flushed to disk unless it is volatile. Closing a file that has to last
    /// without flushing it would hide write errors.
    pub(super) fn close(&mut self, durability: Durability) -> Result<(), StoreError> {
        match self.file.take() {
            Some(file) if durability == Durability::Flushed => {
                file.sync_all().map_err(StoreError::io("flush to disk", &self.path))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Drops the handle without removing the temporary file, which has been renamed.
    pub(super) fn forget(mut self) {
        self.path = PathBuf::new();
    }
}

impl Write for StagedFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("the staged file is closed"));
        };
        let n = file.write(buf)?;
        self.hasher.update(&buf[..n]);
        self.len += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), File::flush)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // If this fails, the leftover is harmless (nothing refers to it) and `gc` removes it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether publishing may replace an existing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishMode {
    /// Replace it: the name determines the bytes, so this can only repair.
    Replace,
    /// Keep it: the first file published under a name wins.
    CreateOnly,
}

/// Whether a published file has to survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It is flushed to disk first: results, refs and everything they lead to.
    Flushed,
    /// It is not: leases and notes, which are worthless after a power cut. Flushing would make
    /// hundreds of waiting workers a burden for a shared file system.
    Volatile,
}

/// Outcome of publishing a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The file now has the name.
    Published,
    /// Another file has the name (only with [`PublishMode::CreateOnly`]).
    NameTaken,
}

/// A file of the store, as listed by the backend.
#[derive(Debug, Clone)]
pub struct FileEntry {
    /// Name within the store, with `/` between parts. Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Path in the file system.
    pub path: PathBuf,
    /// Size in bytes.
    pub len: u64,
    /// Time of the last write or touch.
    pub modified: SystemTime,
    /// Whether the entry is a regular file; links, sockets and devices do not belong in a store.
    pub is_file: bool,
}

/// Storage for the files of a store. Names are relative, with `/` between parts.
///
/// Implementations guarantee that a file is complete and (unless it is volatile) durable when
/// `publish` returns, and that a reader sees all of it or none of it at any moment, even after a
/// crash.
pub trait Backend: Send + Sync + std::fmt::Debug {
    /// Opens a new temporary file.
    fn stage(&self) -> Result<StagedFile, StoreError>;
    /// Renames a staged file to its final name.
    fn publish(
        &self,
        staged: StagedFile,
        name: &str,
        mode: PublishMode,
        durability: Durability,
    ) -> Result<PublishOutcome, StoreError>;
    /// Reads a file; `None` if it does not exist.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Asks the storage what files a folder has, so that the next look at a file there does not
    /// come from a cache. Clients of network file systems remember for up to a minute that a name
    /// did not exist.
    fn refresh(&self, _folder: &str) {}
    /// Returns a file's size and time; `None` if it does not exist.
    fn head(&self, name: &str) -> Result<Option<FileEntry>, StoreError>;
    /// Lists all files below a folder, sorted by name; empty if the folder does not exist.
    fn list(&self, folder: &str) -> Result<Vec<FileEntry>, StoreError>;
    /// Returns the time by the storage's own clock, from which the times of files come.
    fn now(&self) -> Result<SystemTime, StoreError>;
    /// Marks a file as just used, so that `gc` keeps it for a grace period.
    fn touch(&self, name: &str) -> Result<(), StoreError>;
    /// Removes a file, if it still exists.
    fn remove(&self, entry: &FileEntry) -> Result<(), StoreError>;
    /// Moves a file to a name in the quarantine.
    fn quarantine(&self, entry: &FileEntry, name: &str) -> Result<(), StoreError>;
    /// Gives a file a second name: a hard link where the storage has them, else a copy.
    fn link(&self, name: &str, second: &str) -> Result<(), StoreError>;
    /// Removes empty temporary folders last used before a time, where the storage has folders.
    fn remove_empty_folders(&self, _before: SystemTime) {}
}
