//! Reasons why a checkpoint cannot be written.

use std::io;
use std::path::PathBuf;

use super::weights_error::WeightsError;

/// Why a checkpoint cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is something at the place already.
    #[error("{} exists already: name a folder that does not", .0.display())]
    Exists(PathBuf),
    /// The system refuses.
    #[error("cannot write the checkpoint: {0}")]
    Io(#[source] io::Error),
    /// The same, with the file.
    #[error("cannot write {}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A tensor that is to be written is not as it must be.
    #[error("tensor {0} {1}")]
    Tensor(String, String),
    /// The weights that are to be copied cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl From<io::Error> for ExportError {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}
