//! What the store asks of the place where its files lie, small enough for an object store to answer later.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use super::error::StoreError;
use crate::ids::Digest;

/// A file being written under a temporary name. Nobody can see it until it is published; dropped, it is gone.
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

    /// The digest and the number of the bytes written so far.
    pub fn digest(&self) -> (Digest, u64) {
        (Digest::from(self.hasher.finalize()), self.len)
    }

    /// Makes the bytes durable and closes the file, reporting what a silent close would lose.
    pub(super) fn sync_and_close(&mut self) -> Result<(), StoreError> {
        if let Some(file) = self.file.take() {
            file.sync_all().map_err(StoreError::io("flush to disk", &self.path))?;
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The temporary name is gone (renamed away), so there is nothing left to remove.
    pub(super) fn forget(mut self) {
        self.path = PathBuf::new();
    }
}

impl Write for StagedFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("the staged file is sealed"));
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
            // A leftover is harmless (nothing refers to it) and `gc` removes it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether publishing may replace what has the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishMode {
    /// The name says what the bytes are, so that replacing can only mend.
    Replace,
    /// The first one wins, for good.
    CreateOnly,
}

/// What publishing found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The name is ours.
    Ours,
    /// Another file has the name already (only with [`Publish::CreateOnly`]).
    Taken,
}

/// A file of the store as its place lists it.
#[derive(Debug, Clone)]
pub struct FileEntry {
    /// The name within the store, `/` between parts. Bytes that are not UTF-8 are replaced, so that it can be shown.
    pub name: String,
    /// The same name as the file system has it.
    pub path: PathBuf,
    /// Bytes.
    pub len: u64,
    /// When it was last written or touched.
    pub modified: SystemTime,
    /// Whether it is a plain file (a link, socket or device has no business in a store).
    pub is_file: bool,
}

/// A place for store files. Names are relative, `/` between parts.
///
/// Implementations promise: a published file is whole and durable when `publish` returns, and a reader sees
/// all of it or nothing at any moment, crashes included.
pub trait Backend: Send + Sync + std::fmt::Debug {
    /// Opens a new temporary file.
    fn stage(&self) -> Result<StagedFile, StoreError>;
    /// Gives a staged file its name.
    fn publish(&self, staged: StagedFile, name: &str, mode: PublishMode) -> Result<PublishOutcome, StoreError>;
    /// The bytes of a file; `None` when there is none.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Length and time of a file; `None` when there is none.
    fn head(&self, name: &str) -> Result<Option<FileEntry>, StoreError>;
    /// Every file below a folder, sorted by name; nothing when there is no such folder.
    fn list(&self, folder: &str) -> Result<Vec<FileEntry>, StoreError>;
    /// Marks a file as just used, so that `gc` lets it be.
    fn touch(&self, name: &str) -> Result<(), StoreError>;
    /// Removes a file; it may be gone already.
    fn remove(&self, entry: &FileEntry) -> Result<(), StoreError>;
    /// Moves a file into the quarantine under a name.
    fn set_aside(&self, entry: &FileEntry, name: &str) -> Result<(), StoreError>;
    /// Shows a file under a second name (a hard link where the place has them, a copy elsewhere).
    fn link(&self, name: &str, second: &str) -> Result<(), StoreError>;
}
