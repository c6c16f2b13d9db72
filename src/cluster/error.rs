//! Errors of submissions and of the batch system.

use std::time::Duration;

use crate::evolution::EvolutionError;
use crate::evolution::pipeline::PipelineError;
use crate::store::StoreError;

/// A result whose error, unless another is named, is one of the cluster.
pub type Result<T, E = ClusterError> = std::result::Result<T, E>;

/// A submission, or a question to the batch system, that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The evolution's state cannot be read.
    #[error(transparent)]
    Evolution(#[from] EvolutionError),
    /// The pipeline file or the profile cannot be used.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A setting does not fit this cluster or this machine.
    #[error("`{key}`: {problem}")]
    Setting {
        /// The key of the profile, or the flag.
        key: String,
        /// The problem, and the remedy.
        problem: String,
    },
    /// The round is under way elsewhere.
    #[error("round {round} of {evolution} is under way: {by}")]
    UnderWay {
        /// The evolution.
        evolution: String,
        /// The round that is under way.
        round: u32,
        /// The jobs or the process, with ids.
        by: String,
    },
    /// The batch system refused a job.
    #[error("{command} refused the job: {message}{}", key.map_or(String::new(), |key| format!("; look at {key}")))]
    Refused {
        /// The command.
        command: String,
        /// The message of the batch system.
        message: String,
        /// The key of the profile that caused the refusal, if the message tells.
        key: Option<&'static str>,
    },
    /// A command of the batch system is not installed here.
    #[error("there is no `{command}` on the PATH")]
    NoCommand {
        /// The command.
        command: String,
    },
    /// A command of the batch system failed.
    #[error("{command} failed: {message}")]
    Failed {
        /// The command.
        command: String,
        /// Its message.
        message: String,
    },
    /// A command of the batch system did not answer.
    #[error("{command} gave no answer within {} s; the controller may be down or busy", timeout.as_secs())]
    NoAnswer {
        /// The command.
        command: String,
        /// How long it was waited for.
        timeout: Duration,
    },
}
