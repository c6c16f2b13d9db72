//! Why an evolution does not go on.

use std::path::PathBuf;

use super::gates::GateResult;
use super::pipeline::PipelineError;
use crate::stages::StageError;
use crate::store::StoreError;

/// Why an evolution does not go on.
#[derive(Debug, thiserror::Error)]
pub enum EvolutionError {
    /// A stage failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A file that the pipeline names cannot be used.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A gate stopped the round.
    #[error(
        "round {round} is stopped by the gate {gate}; everything it made is kept, and the round before stays current"
    )]
    Gate {
        /// The round.
        round: u32,
        /// The gate, its figure and its threshold.
        gate: Box<GateResult>,
        /// Every gate that was checked.
        gates: Vec<GateResult>,
        /// Where the tables of the stopped round are laid out; `None` in a dry run.
        tables: Option<PathBuf>,
    },
    /// There is nothing to learn from.
    #[error("round {round}: {problem}")]
    Nothing {
        /// The round.
        round: u32,
        /// What is missing.
        problem: String,
        /// Where the tables of the round are laid out, as far as it came; `None` where nothing was made or could be kept.
        tables: Option<PathBuf>,
    },
    /// A gate would stop the round whatever came of it, so that it is not begun.
    #[error("round {round} is not begun: {problem}")]
    GateUnreachable {
        /// The round.
        round: u32,
        /// Which gate, and why.
        problem: String,
    },
    /// A round that was done would come out otherwise now.
    #[error("{problem}")]
    Changed {
        /// What is not as it was.
        problem: String,
    },
}

impl From<StoreError> for EvolutionError {
    fn from(e: StoreError) -> Self {
        Self::Stage(e.into())
    }
}
