//! Reasons why the weights of a checkpoint cannot be used.

use std::fmt;
use std::path::PathBuf;

use candle_core::DType;

use super::json_file::JsonFileError;
use super::json_section::indented_list;
use super::safetensors_header::quoted;

/// Something that is wrong with a weight file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightProblem {
    /// The file.
    pub file: PathBuf,
    /// The tensor that it concerns, under its name in the file.
    pub tensor: Option<String>,
    /// What is wrong.
    pub problem: String,
}

/// Why weights cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The folder has no safetensors file.
    #[error("{} holds no weights: there is no *.safetensors file in it{}", folder.display(), describe_pickles(pickles))]
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
        /// What the system says.
        source: std::io::Error,
    },
    /// The index cannot be read.
    #[error(transparent)]
    Json(#[from] JsonFileError),
    /// Files are damaged or do not belong to the configuration: all that was found.
    #[error("the weights cannot be used:{}", indented_list(problems))]
    Damaged {
        /// What is wrong.
        problems: Vec<WeightProblem>,
    },
    /// A tensor was asked for that the architecture does not have.
    #[error("the model has no tensor {0}")]
    Unknown(String),
    /// Weights were asked for in a type that they cannot be converted to.
    #[error("weights cannot be converted to {0:?}: ask for F32, F16 or BF16")]
    Type(DType),
    /// The device does not take the tensor.
    #[error("cannot place tensor {name}: {source}")]
    Place {
        /// The tensor.
        name: String,
        /// What candle says.
        source: candle_core::Error,
    },
}

fn describe_pickles(pickles: &[PathBuf]) -> String {
    let names: Vec<String> = pickles.iter().map(|p| p.file_name().unwrap_or_default().display().to_string()).collect();
    if names.is_empty() {
        return String::new();
    }
    format!(" ({} may be PyTorch pickles: convert them with save_file of safetensors)", names.join(", "))
}

impl fmt::Display for WeightProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tensor {
            Some(tensor) => write!(f, "{}: tensor {} {}", self.file.display(), quoted(tensor), self.problem),
            None => write!(f, "{}: {}", self.file.display(), self.problem),
        }
    }
}
