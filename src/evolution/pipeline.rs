//! The pipeline file: every knob of an evolution, in TOML. An unknown key, a wrong type or a value out of range is an error that
//! names the file, the line and the key.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::imaging::{Limits, NearDuplicates};
use crate::stages::ingest::IngestOptions;
use crate::store::is_name;

/// The bundled pipeline, used where no file is named and `pipelines/nano.toml` is not at hand.
const NANO: &str = include_str!("../../pipelines/nano.toml");

/// Where the default pipeline file lies in a checkout.
pub const DEFAULT_FILE: &str = "pipelines/nano.toml";

/// A pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// The evolution that results are named under, unless the command line says otherwise.
    pub evolution: String,
    /// What becomes an image.
    #[serde(default)]
    pub ingest: Ingest,
}

/// The knobs of ingest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ingest {
    /// A file larger than this is rejected unread, in bytes.
    pub max_bytes: u64,
    /// An image of more pixels is rejected by its header, before it is decoded.
    pub max_pixels: u64,
    /// The most times that the longer side may be the shorter.
    pub max_aspect_ratio: u32,
    /// The largest Hamming distance of 64-bit perceptual hashes at which images count as the same, 0 to 16; without it only
    /// files of equal bytes do.
    pub near_duplicate_bits: Option<u32>,
    /// The most images of a shard.
    pub shard_rows: u32,
    /// A shard ends with the image that reaches this many bytes.
    pub shard_bytes: u64,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_pixels: 89_478_485,
            max_aspect_ratio: 200,
            near_duplicate_bits: None,
            shard_rows: 1024,
            shard_bytes: 64 << 20,
        }
    }
}

impl Ingest {
    /// The options as the stage takes them.
    pub fn options(&self) -> IngestOptions {
        IngestOptions {
            limits: Limits {
                max_bytes: self.max_bytes,
                max_pixels: self.max_pixels,
                max_aspect_ratio: self.max_aspect_ratio,
            },
            near_duplicate_bits: self.near_duplicate_bits,
            shard_rows: self.shard_rows as usize,
            shard_bytes: self.shard_bytes,
        }
    }
}

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

impl Pipeline {
    /// Reads a pipeline file; without one, `pipelines/nano.toml`, or the bundled copy of it.
    ///
    /// # Errors
    /// See [`PipelineError`].
    pub fn load(file: Option<&Path>) -> Result<Self, PipelineError> {
        let name = file.unwrap_or(Path::new(DEFAULT_FILE));
        let failed = |problem| PipelineError { file: name.to_owned(), line: None, problem, nearest: None };
        match std::fs::read_to_string(name) {
            Ok(text) => Self::parse(name, &text),
            Err(e) if file.is_none() && e.kind() == std::io::ErrorKind::NotFound => Self::parse(name, NANO),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(failed("there is no such file".into())),
            Err(e) => Err(failed(format!("cannot be read: {e}"))),
        }
    }

    /// Reads the text of a pipeline file.
    ///
    /// # Errors
    /// See [`PipelineError`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, PipelineError> {
        let pipeline: Self = toml::from_str(text).map_err(|e| explain(file, text, &e))?;
        match pipeline.out_of_range() {
            None => Ok(pipeline),
            Some((key, problem)) => Err(PipelineError {
                file: file.to_owned(),
                line: line_of_key(text, key),
                problem: format!("`{key}`: {problem}"),
                nearest: None,
            }),
        }
    }

    /// The first key whose value has no meaning.
    fn out_of_range(&self) -> Option<(&'static str, String)> {
        if !is_name(&self.evolution) {
            let rule = "use 1 to 64 letters, digits, `.`, `_` and `-`, the first one a letter, digit or `_`";
            return Some(("evolution", format!("`{}` cannot name an evolution: {rule}", self.evolution)));
        }
        let i = &self.ingest;
        let numbers: [(&'static str, u64, RangeInclusive<u64>); 6] = [
            ("ingest.max_bytes", i.max_bytes, 1..=1 << 30),
            ("ingest.max_pixels", i.max_pixels, 1..=1 << 32),
            ("ingest.max_aspect_ratio", u64::from(i.max_aspect_ratio), 1..=u64::from(u32::MAX)),
            (
                "ingest.near_duplicate_bits",
                u64::from(i.near_duplicate_bits.unwrap_or(0)),
                0..=u64::from(NearDuplicates::MAX_THRESHOLD),
            ),
            ("ingest.shard_rows", u64::from(i.shard_rows), 1..=1 << 20),
            ("ingest.shard_bytes", i.shard_bytes, 1..=1 << 30),
        ];
        let bad = numbers.into_iter().find(|(_, value, range)| !range.contains(value));
        bad.map(|(key, value, range)| (key, format!("{value} is not within {} to {}", range.start(), range.end())))
    }
}

/// Says what a TOML error is about: the line, the key, and for an unknown key the nearest known one.
fn explain(file: &Path, text: &str, e: &toml::de::Error) -> PipelineError {
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
fn line_of_key(text: &str, dotted: &str) -> Option<usize> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> PipelineError {
        Pipeline::parse(Path::new("p.toml"), text).expect_err("must not parse")
    }

    #[test]
    fn the_bundled_pipeline_is_usable_and_lists_every_key() {
        let pipeline = Pipeline::parse(Path::new("nano.toml"), NANO).expect("usable");
        let all = toml::Value::try_from(&pipeline).expect("a table");
        for key in all["ingest"].as_table().expect("a table").keys() {
            assert!(line_of_key(NANO, &format!("ingest.{key}")).is_some(), "{key} is not in nano.toml");
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest() {
        let e = error("evolution = \"a\"\n[ingest]\nmax_byte = 3\n");
        assert_eq!(e.to_string(), "p.toml:3: unknown key `max_byte`; did you mean `max_bytes`?");
        let e = error("evolution = \"a\"\n[ingets]\nmax_bytes = 3\n");
        assert_eq!((e.line, e.nearest.as_deref()), (Some(2), Some("ingest")));
        assert_eq!(error("evolution = \"a\"\nzzzzzzzzzz = 1\n").nearest, None);
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line() {
        let e = error("evolution = \"a\"\n[ingest]\n\nshard_rows = 0\n");
        assert_eq!(e.to_string(), "p.toml:4: `ingest.shard_rows`: 0 is not within 1 to 1048576");
        let e = error("evolution = \"a\"\n[ingest]\nmax_bytes = \"x\"\n");
        assert_eq!(e.line, Some(3));
        assert!(e.problem.contains("max_bytes"), "{e}");
        let e = error("evolution = \"../x\"\n");
        assert_eq!(e.line, Some(1));
        let e = error("evolution = \"a\"\n[ingest]\nnear_duplicate_bits = 17\n");
        assert!(e.to_string().contains("ingest.near_duplicate_bits"), "{e}");
        assert!(error("evolution = \"a\"\n[ingest\n").line.is_some());
        assert!(error("").problem.contains("evolution"));
    }
}
