//! Storage in a POSIX folder: local disks, NFS and the parallel file systems of clusters.
//!
//! Publishing a file means: write under `tmp/`, fsync, close, rename (or create-only rename), fsync
//! the folder. A crash at any point leaves either the complete file under its final name, or
//! nothing.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps, UTIME_NOW, renameat_with, utimensat};
use rustix::io::Errno;

use super::backend::{Backend, FileEntry, PublishMode, PublishOutcome, StagedFile};
use super::error::StoreError;
use super::layout;
use super::process::Process;

/// Minimum age of a dead process's temporary file before opening the store removes it.
const STALE_AGE: Duration = Duration::from_secs(600);

/// A store folder.
#[derive(Debug)]
pub struct PosixFolder {
    root: PathBuf,
    writer: Process,
    counter: AtomicU64,
}

impl PosixFolder {
    /// Wraps the folder at `root` without accessing it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), writer: Process::current(), counter: AtomicU64::new(0) }
    }

    /// Returns the path of the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes temporary files that dead processes of this host left behind.
    pub fn remove_stale_temporaries(&self) {
        let Ok(entries) = self.list(layout::TMP) else { return };
        for entry in entries {
            let owner = entry.name.rsplit('/').next().and_then(Process::parse_prefix);
            let old = entry.modified.elapsed().is_ok_and(|age| age > STALE_AGE);
            if old && owner.is_some_and(|p| p.is_surely_dead()) {
                let _ = self.remove(&entry);
            }
        }
    }

    fn full_path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Creates the parent folders of `path` and flushes each new level to disk.
    fn create_parent(&self, path: &Path) -> Result<(), StoreError> {
        let Some(parent) = path.parent() else { return Ok(()) };
        if parent.is_dir() {
            return Ok(());
        }
        self.create_parent(parent)?;
        match fs::create_dir(parent) {
            Ok(()) => sync_folder_of(parent),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(StoreError::io("create the folder", parent)(e)),
        }
    }
}

fn sync_folder_of(path: &Path) -> Result<(), StoreError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(StoreError::io("flush the folder", parent))
}

/// Renames a file without replacing another; `false` if the name is taken.
fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // Some file systems, such as NFS, lack this. A hard link is create-only everywhere.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from).map(|()| true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        },
        Err(e) => Err(e.into()),
    }
}

impl Backend for PosixFolder {
    fn stage(&self) -> Result<StagedFile, StoreError> {
        loop {
            let n = self.counter.fetch_add(1, Ordering::Relaxed);
            let path = self.full_path(layout::TMP).join(format!("{}-{n}", self.writer.prefix()));
            self.create_parent(&path)?;
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(StagedFile::new(file, path)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(StoreError::io("create the temporary file", path)(e)),
            }
        }
    }

    fn publish(&self, mut staged: StagedFile, name: &str, mode: PublishMode) -> Result<PublishOutcome, StoreError> {
        staged.sync_and_close()?;
        let path = self.full_path(name);
        self.create_parent(&path)?;
        let from = staged.path().clone();
        match mode {
            PublishMode::Replace => fs::rename(&from, &path).map_err(StoreError::io("publish", &path))?,
            PublishMode::CreateOnly => {
                if !rename_new(&from, &path).map_err(StoreError::io("publish", &path))? {
                    return Ok(PublishOutcome::NameTaken);
                }
            }
        }
        staged.forget();
        sync_folder_of(&path)?;
        Ok(PublishOutcome::Published)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.full_path(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(StoreError::io("read", path)(e)),
        }
    }

    fn head(&self, name: &str) -> Result<Option<FileEntry>, StoreError> {
        let path = self.full_path(name);
        match fs::symlink_metadata(&path) {
            Ok(meta) => entry(name.to_owned(), path, &meta).map(Some),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(StoreError::io("inspect", path)(e)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<FileEntry>, StoreError> {
        let top = self.full_path(folder);
        let mut entries = Vec::new();
        for item in walkdir::WalkDir::new(&top).sort_by_file_name() {
            let item = match item {
                Ok(item) => item,
                // Another process may have removed the file since it was listed.
                Err(e) if e.io_error().is_some_and(is_absent) => continue,
                Err(e) => {
                    let path = e.path().unwrap_or(&top).to_owned();
                    return Err(StoreError::io("list", path)(e.into()));
                }
            };
            if item.file_type().is_dir() {
                continue;
            }
            let name = item.path().strip_prefix(&self.root).unwrap_or(item.path()).to_string_lossy().into_owned();
            match item.metadata() {
                Ok(meta) => entries.push(entry(name, item.into_path(), &meta)?),
                Err(e) if e.io_error().is_some_and(is_absent) => {}
                Err(e) => return Err(StoreError::io("inspect", item.path())(e.into())),
            }
        }
        Ok(entries)
    }

    fn touch(&self, name: &str) -> Result<(), StoreError> {
        let path = self.full_path(name);
        // Setting the time to "now" needs write permission only; an explicit time needs ownership,
        // which a user of a shared store may not have.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        match utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from) {
            Ok(()) => Ok(()),
            // Already removed; a reader will notice.
            Err(e) if is_absent(&e) => Ok(()),
            // Without write permission the file cannot be protected from `gc`.
            Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => Ok(()),
            Err(e) => Err(StoreError::io("touch", path)(e)),
        }
    }

    fn remove(&self, entry: &FileEntry) -> Result<(), StoreError> {
        match fs::remove_file(&entry.path) {
            Ok(()) => Ok(()),
            Err(e) if is_absent(&e) => Ok(()),
            Err(e) => Err(StoreError::io("remove", &entry.path)(e)),
        }
    }

    fn quarantine(&self, entry: &FileEntry, name: &str) -> Result<(), StoreError> {
        let to = self.full_path(name);
        self.create_parent(&to)?;
        match fs::rename(&entry.path, &to) {
            Ok(()) => sync_folder_of(&entry.path),
            // Another process has already moved the file.
            Err(e) if is_absent(&e) => Ok(()),
            Err(e) => Err(StoreError::io("quarantine", &entry.path)(e)),
        }
    }

    fn link(&self, name: &str, second: &str) -> Result<(), StoreError> {
        let (from, to) = (self.full_path(name), self.full_path(second));
        self.create_parent(&to)?;
        match fs::hard_link(&from, &to) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) if matches!(e.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
                fs::copy(&from, &to).map(|_| ()).map_err(StoreError::io("copy to", to))
            }
            Err(e) => Err(StoreError::io("link", to)(e)),
        }
    }
}

fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn entry(name: String, path: PathBuf, meta: &fs::Metadata) -> Result<FileEntry, StoreError> {
    let modified = meta.modified().map_err(StoreError::io("inspect", &path))?;
    Ok(FileEntry { name, path, len: meta.len(), modified, is_file: meta.is_file() })
}
