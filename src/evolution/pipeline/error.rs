//! What is wrong with a pipeline file: the line, the key, and the nearest key that there is.

use std::path::{Path, PathBuf};

/// A pipeline file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {problem}", file.display(), line.map_or(String::new(), |n| format!(":{n}")))]
pub struct PipelineError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: Option<usize>,
    /// What is wrong, with the key.
    pub problem: String,
    /// The known key that comes nearest to an unknown one.
    pub nearest: Option<String>,
}

/// Says what a TOML error is about: the line, the key, and for an unknown key the nearest known one.
pub(super) fn explain(file: &Path, text: &str, e: &toml::de::Error) -> PipelineError {
    let start = e.span().map(|span| span.start);
    let line = start.map(|at| text[..at.min(text.len())].matches('\n').count() + 1);
    let mut problem = e.message().trim().replace('\n', " ");
    let nearest = unknown_field(&problem);
    if let Some((unknown, known)) = &nearest {
        problem = format!("unknown key `{unknown}`");
        if let Some(known) = known {
            problem = format!("{problem}; did you mean `{known}`?");
        }
    } else if let Some(key) = line.and_then(|n| key_on_line(text, n))
        && !problem.contains(&key)
    {
        problem = format!("`{key}`: {problem}");
    }
    PipelineError { file: file.to_owned(), line, problem, nearest: nearest.and_then(|n| n.1) }
}

/// The unknown key of serde's message, and the nearest of the keys that it expected.
fn unknown_field(message: &str) -> Option<(String, Option<String>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2);
    let nearest = known.map(|k| (strsim::damerau_levenshtein(k, unknown), k)).min();
    let nearest = nearest.filter(|(distance, k)| *distance <= k.len().max(unknown.len()) / 2);
    Some((unknown.to_owned(), nearest.map(|(_, k)| k.to_owned())))
}

/// The key that a line sets.
fn key_on_line(text: &str, line: usize) -> Option<String> {
    let (key, _) = text.lines().nth(line - 1)?.split_once('=')?;
    Some(key.trim().to_owned())
}

/// The line that sets a dotted key such as `ingest.max_bytes`.
pub(super) fn line_of_key(text: &str, dotted: &str) -> Option<usize> {
    let (table, key) = dotted.rsplit_once('.').unwrap_or(("", dotted));
    let mut current = String::new();
    for (i, line) in text.lines().map(str::trim).enumerate() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            current = name.trim().to_owned();
        } else if line.split_once('=').is_some_and(|(k, _)| {
            let k = k.trim();
            (current == table && k == key) || (current.is_empty() && k == dotted)
        }) {
            return Some(i + 1);
        }
    }
    None
}
