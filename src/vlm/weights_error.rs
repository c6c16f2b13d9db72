//! Reasons why the weights of a checkpoint cannot be used.

use std::fmt;
use std::path::{Path, PathBuf};

use candle_core::DType;

use super::json_file::JsonFileError;
use super::json_section::indented_list;
use super::safetensors_header::quoted;
use crate::input_kind::convert_weights;

/// A problem of a weight file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightProblem {
    /// The file.
    pub file: PathBuf,
    /// The tensor that it concerns, by its name in the file.
    pub tensor: Option<String>,
    /// The problem.
    pub problem: String,
}

impl WeightProblem {
    pub(crate) fn new(file: &Path, tensor: Option<&str>, problem: impl Into<String>) -> Self {
        Self { file: file.to_owned(), tensor: tensor.map(str::to_owned), problem: problem.into() }
    }
}

/// A reason why weights cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The folder has no safetensors file.
    #[error("{} contains no weights: it has no *.safetensors file{}", folder.display(), describe_pickles(folder, pickles))]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// Files that are probably pickles.
        pickles: Vec<PathBuf>,
    },
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The index cannot be read.
    #[error(transparent)]
    Json(#[from] JsonFileError),
    /// Files are damaged or do not fit the configuration; lists all problems.
    #[error("the weights cannot be used:{}", indented_list(problems))]
    Damaged {
        /// The problems.
        problems: Vec<WeightProblem>,
    },
    /// A requested tensor is not part of the architecture.
    #[error("the model has no tensor {0}")]
    Unknown(String),
    /// Weights cannot be converted to the requested dtype.
    #[error("weights cannot be converted to {0:?}; choose F32, F16 or BF16")]
    Type(DType),
    /// Moving a tensor to the device failed.
    #[error("cannot move tensor {name} to the device: {source}")]
    Place {
        /// The tensor.
        name: String,
        /// candle's error.
        source: candle_core::Error,
    },
}

fn describe_pickles(folder: &Path, pickles: &[PathBuf]) -> String {
    let names: Vec<String> = pickles.iter().map(|p| p.file_name().unwrap_or_default().display().to_string()).collect();
    if names.is_empty() {
        return String::new();
    }
    let convert = convert_weights(&folder.display().to_string());
    format!(", and {} may be PyTorch pickles; {convert}", names.join(", "))
}

impl fmt::Display for WeightProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tensor {
            Some(tensor) => write!(f, "{}: tensor {} {}", self.file.display(), quoted(tensor), self.problem),
            None => write!(f, "{}: {}", self.file.display(), self.problem),
        }
    }
}
