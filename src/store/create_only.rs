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
//! no other file can get the name; once it has left, renaming it fails. So no process that uses
//! turns replaces a file, whenever processes are killed or suspended. This holds only among them:
//! a host that has one of the first two ways on the same folder (such as the server of a network
//! file system whose clients have neither) does not wait for its turn, and a file that it creates
//! just before a holder's rename is replaced.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::error::StoreError;

/// Ending of the name of a folder that is to become a turn.
const OWN_ENDING: &str = ".d";
/// Number of attempts to take a turn. Each one that fails lets another process publish its file, so
/// more than a few mean that the file system shows a turn that is not there.
const ATTEMPTS: u32 = 40;
/// Longest pause between two attempts; the first ones are shorter.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Whether a rename that reports an error was carried out: only this process renames `from`, so if
/// that is gone, it is `to` now. It happens when a network file system loses the reply and sends
/// the request again.
fn is_renamed(from: &Path, to: &Path) -> bool {
    let is_gone = fs::symlink_metadata(from).is_err_and(|e| e.kind() == ErrorKind::NotFound);
    is_gone && fs::symlink_metadata(to).is_ok()
}

/// Renames a file or folder that only this process renames, even if the success is not reported.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == ErrorKind::NotFound && is_renamed(from, to) => Ok(()),
        outcome => outcome,
    }
}

/// Whether two names belong to one file, as after a hard link whose success was not reported.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// Renames a file without replacing another; `false` if the name is taken. `turn` is the path of
/// the turn for the name `to`; its parent folder exists.
///
/// # Errors
/// [`StoreError::NoCreateOnlyRename`] if the file system supports none of the three ways.
pub(super) fn rename_new(from: &Path, to: &Path, turn: &Path) -> Result<bool, StoreError> {
    let failed = StoreError::io("publish", to);
    let first = match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from) {
        Ok(()) => return Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(is_renamed(from, to)),
        Err(e) if e.kind() == ErrorKind::NotFound && is_renamed(from, to) => return Ok(true),
        Err(e) if !is_unsupported(&e) => return Err(failed(e)),
        Err(e) => e,
    };
    let second = match fs::hard_link(from, to) {
        Ok(()) => {
            // The file is published. If the temporary name remains, `gc` removes it.
            let _ = fs::remove_file(from);
            return Ok(true);
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let is_ours = is_same_file(from, to);
            if is_ours {
                let _ = fs::remove_file(from);
            }
            return Ok(is_ours);
        }
        Err(e) if !is_unsupported(&e) => return Err(failed(e)),
        Err(e) => e,
    };
    Turn::new(from, to, turn).publish().map_err(|e| match e {
        StoreError::NoCreateOnlyRename { path, errors } => {
            StoreError::NoCreateOnlyRename { path, errors: [first, second].into_iter().chain(errors).collect() }
        }
        e => e,
    })
}

/// Returns the folders in `tmp` that kills may have left: turns, and folders that were to become
/// turns of processes that have ended, as `has_ended` says of the rest of their names.
pub(super) fn folders_of_turns(tmp: &Path, has_ended: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(tmp) else { return Vec::new() };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let is_left = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".turn") || name.strip_suffix(OWN_ENDING).is_some_and(&has_ended)
    };
    folders.map(|entry| entry.path()).filter(is_left).collect()
}

/// Removes a folder of a turn if it is empty and was last used before a time: an empty turn is in
/// nobody's way.
pub(super) fn remove_if_old(folder: &Path, before: SystemTime) {
    let modified = fs::metadata(folder).and_then(|meta| meta.modified());
    if modified.is_ok_and(|modified| modified <= before) {
        let _ = fs::remove_dir(folder);
    }
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
        own.push(OWN_ENDING);
        Self { from, to, turn, name: from.file_name().unwrap_or_default(), own: own.into() }
    }

    /// Publishes the file; `false` if the name is taken.
    fn publish(&self) -> Result<bool, StoreError> {
        let failed = |e| StoreError::io("publish", self.to)(e);
        for attempt in 0..ATTEMPTS {
            self.finish_other()?;
            let published = match self.is_taken().map_err(failed)? {
                true => Some(false),
                false if self.take()? => Some(self.use_turn()?),
                false => None,
            };
            if let Some(published) = published {
                // Best effort: an empty turn is in nobody's way.
                let _ = fs::remove_dir(self.turn);
                return Ok(published);
            }
            thread::sleep(LONGEST_PAUSE.min(Duration::from_millis(1 << attempt.min(10))));
        }
        Err(self.unsupported(io::Error::other(format!("{} is always taken", self.turn.display()))))
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
        let is_published = !unless_absent(rename(&self.turn.join(self.name), self.from)).map_err(failed)?;
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
        let taken = rename(self.from, &inside).and_then(|()| {
            rename(&self.own, self.turn).or_else(|e| {
                rename(&inside, self.from)?;
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
        unless_absent(rename(&self.turn.join(file), self.to)).map(|_| ())
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

    fn unsupported(&self, error: io::Error) -> StoreError {
        StoreError::NoCreateOnlyRename { path: self.to.to_owned(), errors: vec![error] }
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
    fn old_empty_folders_of_turns_are_removed() {
        let place = Place::new();
        for name in ["x.turn", "ended-1.d", "running-1.d", "other"] {
            fs::create_dir(place.path(name)).expect("a folder");
        }
        fs::create_dir_all(place.path("held.turn/file")).expect("a folder");
        let remove = |before| {
            let folders = folders_of_turns(place.0.path(), |name| name.starts_with("ended"));
            assert!(folders.iter().all(|folder| !folder.ends_with("running-1.d") && !folder.ends_with("other")));
            folders.iter().for_each(|folder| remove_if_old(folder, before));
        };
        let now = SystemTime::now();
        remove(now - Duration::from_secs(60));
        assert_eq!(place.names().len(), 5);
        remove(now + Duration::from_secs(60));
        assert_eq!(place.names(), ["held.turn", "other", "running-1.d"]);
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
