//! Errors that end an evolution's run.

use std::path::PathBuf;

use super::gates::GateResult;
use super::pipeline::PipelineError;
use crate::stages::StageError;
use crate::store::StoreError;

/// A result whose error, unless another is named, ends an evolution's run.
pub type Result<T, E = EvolutionError> = std::result::Result<T, E>;

/// An error that ends an evolution's run.
#[derive(Debug, thiserror::Error)]
pub enum EvolutionError {
    /// A stage failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A file that the pipeline names cannot be used.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A gate stopped the round.
    #[error("round {round} was stopped by {gate}; its results are kept, and the previous round stays current")]
    Gate {
        /// The round.
        round: u32,
        /// The gate with its value and thresholds.
        gate: Box<GateResult>,
        /// Every gate that was checked.
        gates: Vec<GateResult>,
        /// The folder of the stopped round's tables; `None` in a dry run.
        tables: Option<PathBuf>,
    },
    /// The data to train on, or to audit, is missing.
    #[error("round {round}: {problem}")]
    MissingData {
        /// The round.
        round: u32,
        /// The missing part, and the remedy.
        problem: String,
        /// The folder of the round's tables so far; `None` without any tables.
        tables: Option<PathBuf>,
    },
    /// A gate would stop the round whatever its results are, so it is not started.
    #[error("round {round} was not started: {problem}")]
    GateUnreachable {
        /// The round.
        round: u32,
        /// The gate and the reason.
        problem: String,
    },
    /// A finished round would have other results now.
    #[error("{problem}")]
    Changed {
        /// The cause, and the remedy.
        problem: String,
    },
}

impl From<StoreError> for EvolutionError {
    fn from(e: StoreError) -> Self {
        Self::Stage(e.into())
    }
}
