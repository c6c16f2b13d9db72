//! The error type of all stages.

use std::error::Error;
use std::path::{Path, PathBuf};

use crate::store::{Action, ActionKey, Counts, Process, StoreError};

/// The result of a stage's function.
pub type Result<T, E = StageError> = std::result::Result<T, E>;

/// Reasons why a stage fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The user interrupted the command.
    #[error("interrupted; run the same command again to continue")]
    Interrupted,
    /// The process was asked to finish its shard and take no more.
    #[error("drained; finished work is kept, and the same command continues")]
    Drained,
    /// The process waited for work for as long as it was told to.
    #[error("no work was left for this worker")]
    Idle,
    /// Shards during which workers were lost on two hosts.
    #[error("{phase}: {} set aside, because workers were lost while they computed them: {}", count_shards(shards.len()), list_lost(shards))]
    SetAside {
        /// The stage's phase.
        phase: &'static str,
        /// The shards, each with the processes that were lost.
        shards: Vec<(ActionKey, Vec<Process>)>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A table failed.
    #[error(transparent)]
    Table(#[from] crate::tables::TableError),
    /// The row counts of a shard do not add up: a bug, so its result is not published.
    #[error("{phase}: {} rows came in, but {} went out and {} were rejected", counts.rows_in, counts.rows_out, counts.rejects)]
    Unreconciled {
        /// The stage's phase.
        phase: &'static str,
        /// The row counts.
        counts: Counts,
    },
    /// A file or folder of the user that cannot be used.
    #[error("{}: {problem}", path.display())]
    Source {
        /// The path as given.
        path: PathBuf,
        /// The reason.
        problem: String,
    },
    /// All sources of images hold something else. A line for each says what, and what to do.
    #[error("{0}")]
    NoImage(String),
    /// A file or folder of the user that cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The path as given.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Source files changed between the scan and the reading.
    #[error("{} source files changed while they were read, such as {}", labels.len(), labels.first().map_or("", String::as_str))]
    SourceChanged {
        /// Their labels.
        labels: Vec<String>,
    },
    /// A setting outside its range.
    #[error("{key}: {problem}")]
    Parameter {
        /// Its key in the pipeline file.
        key: &'static str,
        /// The problem with its value.
        problem: String,
    },
    /// A result, an action or an object that another record of the store names is missing.
    #[error("{0} is missing from the store; run `visplay verify --full`, then the same command again")]
    Lost(String),
    /// A record of the store lacks a part that every record of its kind has.
    #[error("{record} has no {part}; run `visplay verify --full`, then the same command again")]
    MissingPart {
        /// The record.
        record: String,
        /// The missing part.
        part: String,
    },
    /// A record of the store that cannot be parsed.
    #[error("cannot parse {record}")]
    Malformed {
        /// The record.
        record: String,
        /// The parser's reason.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Parts of an image table are lost, and the sources no longer give them.
    #[error(
        "parts of {table} are lost and its sources have changed since, so they cannot be recomputed; ingest the \
         sources as they were, or start another evolution (--evolution)"
    )]
    SourcesDiffer {
        /// The ref of the image table.
        table: String,
    },
    /// A dry run found shards without a result.
    #[error("{phase}: {missing} of {shards} shards still have to be computed")]
    WouldRun {
        /// The stage's phase.
        phase: &'static str,
        /// Number of shards without a result.
        missing: usize,
        /// Number of shards of the stage.
        shards: usize,
        /// The action of the first of them.
        action: Box<Action>,
    },
    /// A ref of the store that names no model.
    #[error("{problem}; a model's ref is like EVOLUTION/round-0003/reasoner or EVOLUTION/base")]
    NoModel {
        /// The ref, and what it names.
        problem: String,
    },
    /// A model that cannot be used.
    #[error("the model cannot be used")]
    Model(#[source] Box<dyn Error + Send + Sync>),
    /// The requested device cannot be used.
    #[error(transparent)]
    Device(#[from] crate::device::DeviceError),
    /// Sampling failed.
    #[error(transparent)]
    Sampling(#[from] crate::sampling::SamplingError),
    /// A training step failed.
    #[error(transparent)]
    Training(#[from] crate::training::TrainingError),
    /// Questions that cannot be clustered.
    #[error(transparent)]
    Clusters(#[from] crate::reward::ClusterError),
    /// An invariant of the program does not hold.
    #[error("internal error: {0}; this is a bug in visplay, please report it")]
    Internal(String),
}

impl StageError {
    /// Returns the conversion of the system's error about reading `path`.
    pub fn read(path: &Path) -> impl Fn(std::io::Error) -> Self {
        |source| Self::Read { path: path.to_owned(), source }
    }

    /// Returns the error for a file or folder of the user that cannot be used.
    pub fn source(path: &Path, problem: impl Into<String>) -> Self {
        Self::Source { path: path.to_owned(), problem: problem.into() }
    }

    /// Returns the error for a setting outside its range.
    pub fn parameter(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Parameter { key, problem: problem.into() }
    }

    /// Returns the error for a model that cannot be used.
    pub fn model(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Model(cause.into())
    }

    /// Returns the error for a record of the store that cannot be parsed.
    pub fn malformed(record: impl Into<String>, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Malformed { record: record.into(), source: cause.into() }
    }

    /// Returns the error for a record of the store that lacks a part.
    pub fn missing_part(record: impl Into<String>, part: impl Into<String>) -> Self {
        Self::MissingPart { record: record.into(), part: part.into() }
    }

    /// Returns the error for a missing result.
    pub fn lost_result(key: ActionKey) -> Self {
        Self::Lost(format!("the result {key}"))
    }
}

fn count_shards(n: usize) -> String {
    if n == 1 { "a shard was".to_owned() } else { format!("{n} shards were") }
}

/// Lists shards and the processes that were lost with them.
fn list_lost(shards: &[(ActionKey, Vec<Process>)]) -> String {
    let process = |Process { host, pid, .. }: &Process| format!("process {pid} on {host}");
    let shard = |(key, lost): &(ActionKey, Vec<Process>)| {
        let lost: Vec<String> = lost.iter().map(process).collect();
        format!("{:.12} ({})", key.to_string(), lost.join(", "))
    };
    shards.iter().map(shard).collect::<Vec<_>>().join("; ")
}
