//! What can go wrong in a store.

use std::io;
use std::path::PathBuf;

use super::action::Action;
use crate::canonical::CanonicalError;

/// An error of the store; each names the file that it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb phrase.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The folder has no `FORMAT` file.
    #[error("{} is not a visplay store: it has no FORMAT file", path.display())]
    NotAStore {
        /// The folder.
        path: PathBuf,
    },
    /// The store was written by a newer program.
    #[error("the store {} has format {found}, and this program knows formats up to {known}", path.display())]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// A store file is not what it must be.
    #[error("{name} is damaged: {problem}")]
    Damaged {
        /// The file's name within the store.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A store file that something refers to is not there.
    #[error("{name} is missing from the store")]
    Missing {
        /// The file's name within the store.
        name: String,
    },
    /// Nothing, or more than one thing, goes by a digest prefix or a ref name.
    #[error("{0}")]
    Lookup(String),
    /// A replay asks for what was never stored, so it goes another way than what it replays.
    #[error("the stage {} is asked for otherwise than it was stored", action.stage)]
    ReplayDiverged {
        /// What is asked for.
        action: Box<Action>,
    },
    /// All that was to be made again is made.
    #[error("everything is made again")]
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

    /// The system's error kind, if a system call failed.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}
