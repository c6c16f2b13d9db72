//! Errors of the store.

use std::io;
use std::path::PathBuf;

use super::action::Action;
use super::clock::format_utc;
use crate::canonical::CanonicalError;

/// An error of the store, naming the file it concerns.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// The operation, as a verb phrase.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file system cannot create a file without a risk of replacing another one.
    #[error(
        "cannot create {}: a store needs a file system with RENAME_NOREPLACE, hard links, or renaming of folders; \
         here, each of them failed: {}",
        path.display(),
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    NoCreateOnlyRename {
        /// The file.
        path: PathBuf,
        /// The errors of the ways that were tried, in this order.
        errors: Vec<io::Error>,
    },
    /// The clock of this machine and that of the store's file system differ too much.
    #[error(
        "the clock of this machine says {} UTC, but the store's file system says {} UTC: \
         which files were used within the grace period is uncertain",
        format_utc(*local_ms),
        format_utc(*file_system_ms)
    )]
    ClocksDiffer {
        /// Time of this machine in milliseconds since 1970.
        local_ms: u64,
        /// Time of the file system in milliseconds since 1970.
        file_system_ms: u64,
    },
    /// The folder has no `FORMAT` file.
    #[error("{} is not a visplay store: it has no FORMAT file", path.display())]
    NotAStore {
        /// The folder.
        path: PathBuf,
    },
    /// The store was written by a newer program.
    #[error("the store {} has format {found}, but this visplay supports formats up to {known}", path.display())]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format supported here.
        known: u32,
    },
    /// A store file is corrupt.
    #[error("{name} is damaged: {problem}")]
    Damaged {
        /// The file's name within the store.
        name: String,
        /// The problem, in words.
        problem: String,
    },
    /// A store file that another one refers to does not exist.
    #[error("{name} is missing from the store")]
    Missing {
        /// The file's name within the store.
        name: String,
    },
    /// A digest prefix or ref name matches nothing, or more than one thing.
    #[error("{0}")]
    Lookup(String),
    /// A replay requested an action that is not stored, so it has diverged from the original run.
    #[error("replay diverged: stage {} was requested with parameters that differ from the stored action", action.stage)]
    ReplayDiverged {
        /// The requested action.
        action: Box<Action>,
    },
    /// All actions of a replay have run.
    #[error("the replay is complete")]
    ReplayComplete,
    /// A value has no canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
}

impl StoreError {
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn damaged(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Damaged { name: name.into(), problem: problem.into() }
    }

    /// Returns the system's error kind, if a system call failed.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}
