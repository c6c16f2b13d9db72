//! Create-only renaming: gives a temporary file its final name unless that name is taken.
//!
//! There are three ways, tried in this order, because no file system has all of them:
//!
//! 1. A rename that never replaces (`RENAME_NOREPLACE`). FUSE file systems and NFS lack it.
//! 2. A hard link, which never replaces. BeeGFS has none between folders; rclone, s3fs and vfat
//!    have none at all.
//! 3. A *turn*: a folder in `tmp/` that at most one process holds for each name. A process puts its
//!    file into a folder of its own and renames this folder to the turn. A folder that is not
//!    empty is never replaced, so one process succeeds. The holder renames its file from the turn
//!    to the final name if the name is free.
//!
//! No turn has to expire: another process that needs the turn publishes the file of its holder,
//! which is complete, whether the holder is slow or dead. A file is only renamed by processes
//! that first saw it in the turn and then saw that the name was free. Until it leaves the turn,
//! no other file can get the name; once it has left, renaming it fails. So nothing is ever
//! replaced, whenever processes are killed or suspended.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::error::StoreError;

/// Renames a file without replacing another; `false` if the name is taken. `turn` is the path of
/// the turn for the name `to`; its parent folder exists.
///
/// # Errors
/// [`StoreError::NoCreateOnlyRename`] if the file system supports none of the three ways.
pub(super) fn rename_new(from: &Path, to: &Path, turn: &Path) -> Result<bool, StoreError> {
    let failed = StoreError::io("publish", to);
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from) {
        Ok(()) => return Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(e) if !is_unsupported(&e) => return Err(failed(e)),
        Err(_) => {}
    }
    match fs::hard_link(from, to) {
        Ok(()) => {
            // The file is published. If the temporary name remains, `gc` removes it.
            let _ = fs::remove_file(from);
            return Ok(true);
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(e) if !is_unsupported(&e) => return Err(failed(e)),
        Err(_) => {}
    }
    Turn::new(from, to, turn).publish()
}

/// Whether a system call failed because the file system does not support it, at least for these
/// two files. File systems disagree on the error that says so.
pub(super) fn is_unsupported(e: &io::Error) -> bool {
    use Errno as E;
    let unsupported = [E::INVAL, E::NOSYS, E::OPNOTSUPP, E::PERM, E::XDEV, E::MLINK, E::IO];
    Errno::from_io_error(e).is_some_and(|code| unsupported.contains(&code))
}

/// The third way of [`rename_new`].
struct Turn<'a> {
    from: &'a Path,
    to: &'a Path,
    turn: &'a Path,
    /// The file's name, which is unique to this file among all processes.
    name: &'a OsStr,
    /// Folder that becomes the turn.
    own: PathBuf,
}

impl<'a> Turn<'a> {
    fn new(from: &'a Path, to: &'a Path, turn: &'a Path) -> Self {
        let mut own = OsString::from(from);
        own.push(".d");
        Self { from, to, turn, name: from.file_name().unwrap_or_default(), own: own.into() }
    }

    /// Publishes the file; `false` if the name is taken.
    fn publish(&self) -> Result<bool, StoreError> {
        let failed = |e| StoreError::io("publish", self.to)(e);
        let published = loop {
            self.finish_other()?;
            if self.is_taken().map_err(failed)? {
                break false;
            }
            if self.take()? {
                break self.use_turn()?;
            }
        };
        // Best effort: an empty turn is in nobody's way.
        let _ = fs::remove_dir(self.turn);
        Ok(published)
    }

    /// Publishes the file, which is in the turn; `false` if the name was taken in the meantime.
    fn use_turn(&self) -> Result<bool, StoreError> {
        let failed = |e| StoreError::io("publish", self.to)(e);
        let is_shared = self.files().map_err(failed)?.iter().any(|file| file != self.name);
        let outcome = match is_shared || self.is_taken().map_err(failed)? {
            true => Ok(()),
            false => self.finish(self.name),
        };
        // If the file is gone from the turn, this process or another one has published it.
        let is_published = !unless_absent(fs::rename(self.turn.join(self.name), self.from)).map_err(failed)?;
        match outcome {
            Err(e) if !is_published => Err(failed(e)),
            _ if is_shared && !is_published => Err(self.unsupported(merged_folders())),
            _ => Ok(is_published),
        }
    }

    /// Tries to take the turn with the file in it; `false` if another process holds it.
    fn take(&self) -> Result<bool, StoreError> {
        let failed = |e| StoreError::io("publish", self.to)(e);
        fs::create_dir(&self.own).map_err(failed)?;
        let inside = self.own.join(self.name);
        let taken = fs::rename(self.from, &inside).and_then(|()| {
            fs::rename(&self.own, self.turn).or_else(|e| {
                fs::rename(&inside, self.from)?;
                Err(e)
            })
        });
        if taken.is_err() {
            let _ = fs::remove_dir(&self.own);
        }
        match taken {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => {
                // Some file systems do not even replace an empty folder.
                let _ = fs::remove_dir(self.turn);
                Ok(false)
            }
            Err(e) if is_unsupported(&e) => Err(self.unsupported(e)),
            Err(e) => Err(failed(e)),
        }
    }

    /// Publishes the file of another process that holds the turn.
    fn finish_other(&self) -> Result<(), StoreError> {
        let failed = |e| StoreError::io("publish", self.to)(e);
        match self.files().map_err(failed)?.as_slice() {
            [] => Ok(()),
            [file] if !self.is_taken().map_err(failed)? => self.finish(file).map_err(failed),
            [_] => Ok(()),
            _ => Err(self.unsupported(merged_folders())),
        }
    }

    /// Moves a file from the turn to its final name, unless another process has done so.
    fn finish(&self, file: &OsStr) -> io::Result<()> {
        unless_absent(fs::rename(self.turn.join(file), self.to)).map(|_| ())
    }

    fn files(&self) -> io::Result<Vec<OsString>> {
        match fs::read_dir(self.turn) {
            Ok(entries) => entries.map(|entry| Ok(entry?.file_name())).collect(),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    fn is_taken(&self) -> io::Result<bool> {
        unless_absent(fs::symlink_metadata(self.to).map(|_| ()))
    }

    fn unsupported(&self, source: io::Error) -> StoreError {
        StoreError::NoCreateOnlyRename { path: self.to.to_owned(), source }
    }
}

/// The error on a file system that merges a renamed folder into an existing one, so that a turn
/// excludes nobody.
fn merged_folders() -> io::Error {
    io::Error::other("it merges folders")
}

/// Returns whether a call on a file found it.
fn unless_absent(outcome: io::Result<()>) -> io::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tempfile::TempDir;

    use super::*;

    /// A folder with temporary files, whose content is their name, and a turn for one final name.
    struct Place(TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a temporary folder"))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn stage(&self, name: &str) -> PathBuf {
            fs::write(self.path(name), name).expect("a temporary file");
            self.path(name)
        }

        fn published(&self) -> String {
            fs::read_to_string(self.path("final")).expect("a published file")
        }

        /// Stages and publishes a file.
        fn publish(&self, name: &str) -> bool {
            let (from, to, turn) = (self.stage(name), self.path("final"), self.path("turn"));
            Turn::new(&from, &to, &turn).publish().expect("the file system supports turns")
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.path()).expect("the folder");
            let mut names: Vec<_> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn the_first_file_keeps_the_name() {
        let place = Place::new();
        assert!(place.publish("a"));
        assert!(!place.publish("b"));
        assert_eq!(place.published(), "a");
        assert_eq!(place.names(), ["b", "final"]);
    }

    #[test]
    fn one_of_many_threads_publishes() {
        for round in 0..200 {
            let place = Place::new();
            let published = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for i in 0..8 {
                    let (place, published) = (&place, &published);
                    scope.spawn(move || {
                        let name = format!("file-{i}");
                        if place.publish(&name) {
                            assert_eq!(published.fetch_add(1, Ordering::SeqCst), 0, "round {round}");
                            assert_eq!(place.published(), name);
                        }
                    });
                }
            });
            assert_eq!(published.into_inner(), 1, "round {round}");
            assert!(!place.path("turn").exists());
        }
    }

    #[test]
    fn the_file_of_a_dead_holder_is_published_first() {
        let place = Place::new();
        let (from, to, turn) = (place.stage("dead"), place.path("final"), place.path("turn"));
        assert!(Turn::new(&from, &to, &turn).take().expect("the turn is free"));
        assert!(!place.publish("next"));
        assert_eq!(place.published(), "dead");
    }

    #[test]
    fn a_suspended_holder_learns_that_its_file_was_published() {
        let place = Place::new();
        let (from, to, turn) = (place.stage("slow"), place.path("final"), place.path("turn"));
        let slow = Turn::new(&from, &to, &turn);
        assert!(slow.take().expect("the turn is free"));
        assert!(!place.publish("next"));
        assert!(slow.use_turn().expect("no error"));
        // As when a lease is released before the holder continues: nothing appears again.
        let place = Place::new();
        let (from, to, turn) = (place.stage("slow"), place.path("final"), place.path("turn"));
        let slow = Turn::new(&from, &to, &turn);
        assert!(slow.take().expect("the turn is free"));
        assert!(!place.publish("next"));
        fs::remove_file(&to).expect("the lease");
        assert!(slow.use_turn().expect("no error"));
        assert!(!to.exists());
    }

    #[test]
    fn a_holder_that_finds_the_name_taken_withdraws() {
        let place = Place::new();
        let (from, to, turn) = (place.stage("late"), place.path("final"), place.path("turn"));
        let late = Turn::new(&from, &to, &turn);
        assert!(late.take().expect("the turn is free"));
        place.stage("final");
        assert!(!late.use_turn().expect("no error"));
        assert_eq!(place.published(), "final");
        assert!(from.exists());
    }

    #[test]
    fn an_empty_turn_is_in_nobodys_way() {
        let place = Place::new();
        fs::create_dir(place.path("turn")).expect("a folder");
        assert!(place.publish("a"));
    }

    #[test]
    fn a_file_system_that_merges_folders_is_refused() {
        let place = Place::new();
        fs::create_dir(place.path("turn")).expect("a folder");
        place.stage("turn/other");
        place.stage("turn/mine");
        let (from, to, turn) = (place.path("mine"), place.path("final"), place.path("turn"));
        let mine = Turn::new(&from, &to, &turn);
        assert!(matches!(mine.use_turn(), Err(StoreError::NoCreateOnlyRename { .. })));
        assert!(from.exists() && !to.exists());
        place.stage("turn/third");
        assert!(matches!(mine.publish(), Err(StoreError::NoCreateOnlyRename { .. })));
    }
}
