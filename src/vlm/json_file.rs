//! A reader of the small JSON files of a checkpoint, each of which is an object.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::json_section::abbreviated;
use crate::input_kind::describe_pointer;

/// Size limit in bytes. These files have a few kilobytes, an index of shards up to some hundred.
const MAX_FILE: u64 = 64 << 20;

/// A reason why a JSON file of a checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JsonFileError {
    /// Reading failed.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is far too large for a file of this name.
    #[error("{} has {bytes} bytes: far too many for this file", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Size in bytes.
        bytes: u64,
    },
    /// The file is not JSON, or not an object.
    #[error("{} is not a JSON object: {reason}", file.display())]
    NotAnObject {
        /// The file.
        file: PathBuf,
        /// The problem, with line and column.
        reason: String,
    },
}

impl JsonFileError {
    /// Whether the file does not exist.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// Reads the object in a JSON file.
pub(crate) fn read_object(file: &Path) -> Result<Map<String, Value>, JsonFileError> {
    parse_object(file, &read_text(file)?)
}

/// Parses the object in the text of a JSON file; errors name `file`.
pub(crate) fn parse_object(file: &Path, text: &str) -> Result<Map<String, Value>, JsonFileError> {
    let not_an_object = |reason| JsonFileError::NotAnObject { file: file.to_owned(), reason };
    if let Some(reason) = describe_pointer(text.as_bytes()) {
        return Err(not_an_object(reason));
    }
    match serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|e| not_an_object(e.to_string()))? {
        Value::Object(keys) => Ok(keys),
        other => Err(not_an_object(format!("it holds {}", abbreviated(&other)))),
    }
}

fn read_text(file: &Path) -> Result<String, JsonFileError> {
    let read = |source| JsonFileError::Read { file: file.to_owned(), source };
    let opened = File::open(file).map_err(read)?;
    let bytes = opened.metadata().map_err(read)?.len();
    if bytes > MAX_FILE {
        return Err(JsonFileError::TooLarge { file: file.to_owned(), bytes });
    }
    let mut text = String::new();
    opened.take(MAX_FILE).read_to_string(&mut text).map_err(read)?;
    Ok(text)
}
