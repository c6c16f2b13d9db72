//! Reasons why a checkpoint cannot be written.

use std::io;
use std::path::PathBuf;

use super::weights_error::WeightsError;

/// A reason why a checkpoint cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The output path already exists.
    #[error("{} already exists; pass a new folder", .0.display())]
    Exists(PathBuf),
    /// Writing failed.
    #[error("cannot write the checkpoint: {0}")]
    Io(#[from] io::Error),
    /// Writing a file failed.
    #[error("cannot write {}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file to be copied cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    SideFile {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A tensor to be written is missing or does not have the form that it must have.
    #[error("tensor {0} {1}")]
    Tensor(String, String),
    /// The weights to be copied cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}
