//! Storage in a POSIX folder: local disks, NFS and the parallel file systems of clusters.
//!
//! Publishing a file means: write under `tmp/`, fsync, close, rename (or create-only rename), fsync
//! the folder. A crash at any point leaves either the complete file under its final name, or
//! nothing. Where a file system lacks an operation, another one takes its place.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
use rustix::io::Errno;

use super::backend::{Backend, Durability, FileEntry, PublishMode, PublishOutcome, StagedFile};
use super::create_only::{folders_of_turns, is_renamed, remove_if_old, rename_new};
use super::error::StoreError;
use super::layout;
use super::process::Owner;
use crate::network_files::{ATTEMPTS, is_stale, unless_stale};

/// Minimum age of a dead process's temporary file before opening the store removes it.
const STALE_AGE: Duration = Duration::from_secs(600);

/// A store folder.
#[derive(Debug)]
pub struct PosixFolder {
    root: PathBuf,
    writer: Owner,
    counter: AtomicU64,
}

impl PosixFolder {
    /// Wraps the folder at `root` without accessing it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), writer: Owner::current(), counter: AtomicU64::new(0) }
    }

    /// Returns the path of the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes temporary files that dead processes of this host left behind.
    pub fn remove_stale_temporaries(&self) {
        let Ok(mut entries) = self.list(layout::TMP) else { return };
        let owner = |entry: &FileEntry| entry.name.rsplit('/').next().and_then(Owner::parse_prefix);
        entries.retain(|entry| owner(entry).is_some_and(|owner| owner.is_surely_dead()));
        let has_ended = |name: &str| Owner::parse_prefix(name).is_some_and(|owner| owner.is_surely_dead());
        let folders = folders_of_turns(&self.full_path(layout::TMP), has_ended);
        if entries.is_empty() && folders.is_empty() {
            return;
        }
        let Some(before) = self.now().ok().and_then(|now| now.checked_sub(STALE_AGE)) else { return };
        for entry in entries {
            if entry.modified < before {
                let _ = self.remove(&entry);
            }
        }
        folders.iter().for_each(|folder| remove_if_old(folder, before));
    }

    /// Creates a file that no other process writes: `prefix`, this process and a number.
    fn stage_in(&self, folder: &Path, prefix: &str) -> Result<StagedFile, StoreError> {
        loop {
            let n = self.counter.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{prefix}{}-{n}", self.writer.prefix()));
            self.create_parent(&path)?;
            match unless_stale(|| OpenOptions::new().write(true).create_new(true).open(&path)) {
                Ok(file) => return Ok(StagedFile::new(file, path)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(StoreError::io("create the temporary file", path)(e)),
            }
        }
    }

    /// Copies a file to a staged one and gives that its name.
    fn copy(&self, from: &Path, mut staged: StagedFile, name: &str) -> Result<(), StoreError> {
        unless_stale(|| File::open(from))
            .and_then(|mut object| io::copy(&mut object, &mut staged))
            .map_err(StoreError::io("copy to", self.full_path(name)))?;
        self.publish(staged, name, PublishMode::Replace, Durability::Flushed).map(|_| ())
    }

    /// Lists the files below a folder.
    fn list_once(&self, folder: &str) -> Result<Vec<FileEntry>, StoreError> {
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

    fn full_path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Creates the parent folders of `path` and flushes each new level to disk.
    fn create_parent(&self, path: &Path) -> Result<(), StoreError> {
        let Some(parent) = path.parent() else { return Ok(()) };
        // The parent of a relative path's first part is the empty path.
        let is_there = || unless_stale(|| fs::metadata(parent)).is_ok_and(|meta| meta.is_dir());
        if parent.as_os_str().is_empty() || is_there() {
            return Ok(());
        }
        self.create_parent(parent)?;
        match unless_stale(|| fs::create_dir(parent)) {
            Ok(()) => sync_folder_of(parent),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(StoreError::io("create the folder", parent)(e)),
        }
    }
}

fn sync_folder_of(path: &Path) -> Result<(), StoreError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    sync_folder(parent).map_err(StoreError::io("flush the folder", parent))
}

/// Flushes a folder to disk, so that the names of its files survive a power cut.
///
/// SMB, DrvFs and some FUSE file systems cannot flush a folder and say so by one of several errors.
/// That is no error here: nothing more can be done there.
///
/// # Errors
/// Flushing failed.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    match unless_stale(|| File::open(folder)?.sync_all()) {
        Err(e) => match Errno::from_io_error(&e) {
            Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::BADF) => Ok(()),
            _ => Err(e),
        },
        Ok(()) => Ok(()),
    }
}

impl Backend for PosixFolder {
    fn stage(&self) -> Result<StagedFile, StoreError> {
        self.stage_in(&self.full_path(layout::TMP), "")
    }

    fn publish(
        &self,
        mut staged: StagedFile,
        name: &str,
        mode: PublishMode,
        durability: Durability,
    ) -> Result<PublishOutcome, StoreError> {
        staged.close(durability)?;
        let path = self.full_path(name);
        self.create_parent(&path)?;
        let from = staged.path().clone();
        match mode {
            PublishMode::Replace => match unless_stale(|| fs::rename(&from, &path)) {
                // The rename was carried out, but the reply got lost, and the client sent it again.
                Err(e) if e.kind() == io::ErrorKind::NotFound && is_renamed(&from) => {}
                renamed => renamed.map_err(StoreError::io("publish", &path))?,
            },
            PublishMode::CreateOnly => {
                if !rename_new(&from, &path, &self.full_path(&layout::turn(name)))? {
                    return Ok(PublishOutcome::NameTaken);
                }
            }
        }
        staged.forget();
        if durability == Durability::Flushed {
            sync_folder_of(&path)?;
        }
        Ok(PublishOutcome::Published)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.full_path(name);
        match unless_stale(|| fs::read(&path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(StoreError::io("read", path)(e)),
        }
    }

    fn refresh(&self, folder: &str) {
        // Opening a folder makes NFS ask the server whether it has changed.
        let _ = File::open(self.full_path(folder));
    }

    fn head(&self, name: &str) -> Result<Option<FileEntry>, StoreError> {
        let path = self.full_path(name);
        match unless_stale(|| fs::symlink_metadata(&path)) {
            Ok(meta) => entry(name.to_owned(), path, &meta).map(Some),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(StoreError::io("inspect", path)(e)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<FileEntry>, StoreError> {
        let mut attempt = 1;
        loop {
            match self.list_once(folder) {
                // A folder that is left out would look empty, so everything is listed again.
                Err(StoreError::Io { source, .. }) if is_stale(&source) && attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    fn now(&self) -> Result<SystemTime, StoreError> {
        let path = match self.stage() {
            Ok(staged) => return modified(staged.path()),
            // `gc` must work on a full disk, and touching a file takes no space.
            Err(e) if matches!(e.io_kind(), Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) => {
                self.touch(layout::FORMAT)?;
                self.full_path(layout::FORMAT)
            }
            Err(e) => return Err(e),
        };
        modified(&path)
    }

    fn touch(&self, name: &str) -> Result<(), StoreError> {
        let path = self.full_path(name);
        // Setting the time to "now" needs write permission only; an explicit time needs ownership,
        // which a user of a shared store may not have.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        match unless_stale(|| Ok(utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?)) {
            Ok(()) => Ok(()),
            // Already removed; a reader will notice.
            Err(e) if is_absent(&e) => Ok(()),
            // Without write permission the file cannot be protected from `gc`.
            Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => Ok(()),
            Err(e) => Err(StoreError::io("touch", path)(e)),
        }
    }

    fn remove(&self, entry: &FileEntry) -> Result<(), StoreError> {
        match unless_stale(|| fs::remove_file(&entry.path)) {
            Ok(()) => Ok(()),
            Err(e) if is_absent(&e) => Ok(()),
            Err(e) => Err(StoreError::io("remove", &entry.path)(e)),
        }
    }

    fn quarantine(&self, entry: &FileEntry, name: &str) -> Result<(), StoreError> {
        let to = self.full_path(name);
        self.create_parent(&to)?;
        match unless_stale(|| fs::rename(&entry.path, &to)) {
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
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            // Whatever the reason is, a copy serves as well; if that fails too, its error counts.
            Err(_) => {}
        }
        match (self.copy(&from, self.stage()?, second), to.parent()) {
            // `views/` is on another disk than `tmp/`.
            (Err(e), Some(folder)) if e.io_kind() == Some(io::ErrorKind::CrossesDevices) => {
                self.copy(&from, self.stage_in(folder, layout::HIDDEN)?, second)
            }
            (outcome, _) => outcome,
        }
    }

    fn remove_empty_folders(&self, before: SystemTime) {
        folders_of_turns(&self.full_path(layout::TMP), |_| true)
            .iter()
            .for_each(|folder| remove_if_old(folder, before));
    }
}

fn modified(path: &Path) -> Result<SystemTime, StoreError> {
    unless_stale(|| fs::metadata(path)?.modified()).map_err(StoreError::io("inspect", path))
}

fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn entry(name: String, path: PathBuf, meta: &fs::Metadata) -> Result<FileEntry, StoreError> {
    let modified = meta.modified().map_err(StoreError::io("inspect", &path))?;
    Ok(FileEntry { name, path, len: meta.len(), modified, is_file: meta.is_file() })
}
