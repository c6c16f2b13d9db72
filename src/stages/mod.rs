//! The stages of the pipeline, and the shard runner that they share.

pub mod ingest;
mod output;
mod progress;
mod runner;

pub use self::output::TableOutput;
pub use self::progress::{Interrupt, Progress, Silent};
pub use self::runner::{Made, Ran, Runner, Stage};

use std::path::PathBuf;

use crate::store::{Counts, StoreError};

/// What can go wrong while a stage runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// Somebody asked to stop.
    #[error("stopped; the same command goes on from here")]
    Interrupted,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A table failed.
    #[error(transparent)]
    Table(#[from] crate::tables::TableError),
    /// The rows of a shard do not add up: a defect of the program, which must never be published.
    #[error("{phase}: {} rows came in, but {} went on and {} were rejected", counts.rows_in, counts.rows_out, counts.rejects)]
    Unreconciled {
        /// The stage's phase.
        phase: &'static str,
        /// The rows.
        counts: Counts,
    },
    /// A source that cannot be read at all.
    #[error("{}: {problem}", path.display())]
    Source {
        /// The source as given.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// Source files changed between the scan and the reading.
    #[error("{} source files changed while they were read, such as {}", labels.len(), labels.first().map_or("", String::as_str))]
    SourceChanged {
        /// Their labels.
        labels: Vec<String>,
    },
    /// A parameter that has no meaning.
    #[error("{key}: {problem}")]
    Parameter {
        /// Its key in the pipeline file.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Another process went another way with the same name.
    #[error("{0}")]
    Conflict(String),
}
