//! Errors of a pipeline file: the file, the line, the key and the nearest known key.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml_edit::Document;

use super::edit::find_key;

/// A pipeline file, or a cluster profile, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {problem}", file.display(), line.map_or(String::new(), |n| format!(":{n}")))]
pub struct PipelineError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The problem, with the key.
    pub problem: String,
    /// The known key nearest to an unknown one.
    pub nearest: Option<String>,
}

impl PipelineError {
    /// Returns an error about a file as a whole.
    pub(crate) fn of_file(file: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self { file: file.into(), line: None, problem: problem.into(), nearest: None }
    }
}

/// The file and text of a pipeline or a cluster profile, which give errors their file and line, and
/// paths their folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct PipelineSource {
    pub(super) file: PathBuf,
    pub(super) text: String,
}

impl PipelineSource {
    /// Creates the source of a file with this text.
    pub(crate) fn new(file: &Path, text: &str) -> Self {
        Self { file: file.to_owned(), text: text.to_owned() }
    }

    /// Returns the folder of the pipeline file, which the paths in it are relative to.
    pub(crate) fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Returns an error about the value of a key.
    pub(crate) fn error(&self, key: &str, problem: impl std::fmt::Display) -> PipelineError {
        PipelineError {
            file: self.file.clone(),
            line: line_of_key(&self.text, key),
            problem: format!("`{key}`: {problem}"),
            nearest: None,
        }
    }

    /// Turns an error of the TOML parser into one that names the line, the key and, for an unknown
    /// key, the nearest known one.
    pub(crate) fn explain(&self, message: &str, span: Option<Range<usize>>) -> PipelineError {
        let line = span.map(|span| line_at(&self.text, span.start));
        let mut problem = message.trim().replace('\n', " ");
        let nearest = unknown_field(&problem);
        if let Some((unknown, known)) = &nearest {
            problem = format!("unknown key `{unknown}`");
            if let Some(known) = known {
                problem = format!("{problem}; did you mean `{known}`?");
            }
        } else if let Some(key) = line.and_then(|n| key_on_line(&self.text, n))
            && !problem.contains(&key)
        {
            problem = format!("`{key}`: {problem}");
        }
        PipelineError { file: self.file.clone(), line, problem, nearest: nearest.and_then(|n| n.1) }
    }
}

/// Returns the unknown key in serde's message, and the nearest of the keys that serde expected.
fn unknown_field(message: &str) -> Option<(String, Option<String>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2);
    let nearest = known.map(|k| (strsim::damerau_levenshtein(k, unknown), k)).min();
    let nearest = nearest.filter(|(distance, k)| *distance <= k.len().max(unknown.len()) / 2);
    Some((unknown.to_owned(), nearest.map(|(_, k)| k.to_owned())))
}

/// Returns the key that a line sets.
fn key_on_line(text: &str, line: usize) -> Option<String> {
    let (key, _) = text.lines().nth(line - 1)?.split_once('=')?;
    Some(key.trim().to_owned())
}

/// Returns the line, from 1, of a byte of a text.
fn line_at(text: &str, at: usize) -> usize {
    text[..at.min(text.len())].matches('\n').count() + 1
}

/// Returns the line, from 1, that sets a dotted key such as `ingest.max_bytes`.
pub(super) fn line_of_key(text: &str, dotted: &str) -> Option<usize> {
    let document = Document::parse(text).ok()?;
    let (table, key) = find_key(document.as_table(), dotted)?;
    let (key, _) = table.get_key_value(key)?;
    Some(line_at(text, key.span()?.start))
}
