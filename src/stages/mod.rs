//! The stages of the pipeline, and the shard runner that they share.

pub mod answers;
pub mod curriculum;
pub mod evaluation;
pub mod image_set;
pub mod ingest;
pub mod model;
mod output;
mod progress;
pub mod prompt_sampler;
pub mod question_form;
pub mod questions;
pub mod rewards;
pub mod role_prompt;
mod runner;
mod shared_while_used;
mod training_state;
pub mod update;
pub mod warm_start;

pub use self::output::TableOutput;
pub use self::progress::{Interrupt, NoProgress, Progress};
pub use self::runner::{Runner, ShardOutput, Stage, StageRun};

use std::path::PathBuf;

use bytes::Bytes;
use serde::Serialize;

use crate::store::{Action, Counts, ObjectId, ObjectKind, StageResult, Store, StoreError};
use crate::tables::{self, TableRow};

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
    /// What a dry run would begin with.
    #[error("{phase}: {missing} of {shards} parts are to be made")]
    WouldRun {
        /// The stage's phase.
        phase: &'static str,
        /// Shards without a result.
        missing: usize,
        /// Shards of the stage.
        shards: usize,
        /// What is asked for the first of them.
        action: Box<Action>,
    },
    /// A model that cannot be used.
    #[error("the model cannot be used: {0}")]
    Model(String),
    /// There is no device to compute on.
    #[error(transparent)]
    Device(#[from] crate::device::DeviceError),
    /// Sampling failed.
    #[error(transparent)]
    Sampling(#[from] crate::sampling::SamplingError),
    /// A training step failed.
    #[error(transparent)]
    Training(#[from] crate::training::TrainingError),
    /// Questions that cannot be compared with one another.
    #[error(transparent)]
    Clusters(#[from] crate::reward::ClusterError),
}

/// Stores the rows that a shard is about, so that its action can name them by digest.
fn put_listing<T: Serialize + ?Sized>(store: &Store, rows: &T) -> Result<ObjectId, StageError> {
    let listing = crate::canonical::to_canonical(rows).map_err(StoreError::from)?;
    Ok(store.put_object(&listing, ObjectKind::Json)?)
}

/// Reads a table from the objects of results, in order.
///
/// # Errors
/// An object is missing or damaged.
pub fn read_rows<R: TableRow>(store: &Store, results: &[StageResult]) -> Result<Vec<R>, StageError> {
    let mut rows = Vec::new();
    for output in results.iter().flat_map(|result| result.outputs_of(R::TABLE)) {
        let bytes = Bytes::from(store.read_object(output.object)?);
        rows.extend(tables::read::<R>(output.object.name(), bytes)?);
    }
    Ok(rows)
}
