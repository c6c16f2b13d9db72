//! The columns of a benchmark file: named by the user, or found by convention.

use std::path::Path;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stages::{Result, StageError};
use crate::tables::import::{ImportError, ImportFile, ImportTable};

/// Columns of the question, by convention: VisPlay's own benchmarks, EasyR1 and verl.
const QUESTIONS: [&str; 3] = ["question", "problem", "extra_info.question"];
/// Columns of the answer.
const ANSWERS: [&str; 4] = ["answer", "ground_truth", "reward_model.ground_truth", "extra_info.answer"];
/// Columns of the image that are preferred to others.
const IMAGES: [&str; 2] = ["image", "images"];

/// The columns of a benchmark file. A field of a struct is named like `reward_model.ground_truth`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BenchmarkColumns {
    /// Column of the image; found by name and type if not set.
    pub image: Option<String>,
    /// Column of the question; `question`, `problem` or `extra_info.question` if not set.
    pub question: Option<String>,
    /// Column of the answer; `answer`, `ground_truth`, `reward_model.ground_truth` or
    /// `extra_info.answer` if not set.
    pub answer: Option<String>,
    /// Column of the category; `category`, if there is one, if not set.
    pub category: Option<String>,
}

impl FromStr for BenchmarkColumns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut columns = Self::default();
        for part in text.split(',') {
            let (key, name) = part.split_once('=').unwrap_or((part, ""));
            let column = match key.trim() {
                "image" => &mut columns.image,
                "question" => &mut columns.question,
                "answer" => &mut columns.answer,
                "category" => &mut columns.category,
                other => return Err(format!("`{other}` is not image, question, answer or category")),
            };
            if name.trim().is_empty() {
                return Err(format!("`{}` has no column; write {}=NAME", key.trim(), key.trim()));
            }
            *column = Some(name.trim().to_owned());
        }
        Ok(columns)
    }
}

/// The columns of a file.
pub(super) struct ResolvedColumns {
    image: Option<String>,
    pub(super) question: String,
    pub(super) answer: String,
    pub(super) category: Option<String>,
}

impl BenchmarkColumns {
    /// Finds the columns that are not named.
    ///
    /// # Errors
    /// The file at `path` has no column of the question or of the answer.
    pub(super) fn resolve(&self, table: &ImportTable, path: &Path) -> Result<ResolvedColumns> {
        let find = |what: &str, named: &Option<String>, usual: &[&str]| {
            let usual_column = || usual.iter().find(|name| table.has_column(name)).map(|name| (*name).to_owned());
            named.clone().or_else(usual_column).ok_or_else(|| {
                let usual = usual.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
                let columns = table.columns();
                let problem = format!(
                    "no column of the {what}, which is {usual} unless it is named (--columns {what}=NAME, or \
                     round.labelled_columns in a pipeline file); its columns are: {columns}"
                );
                StageError::source(path, problem)
            })
        };
        Ok(ResolvedColumns {
            image: self.image.clone(),
            question: find("question", &self.question, &QUESTIONS)?,
            answer: find("answer", &self.answer, &ANSWERS)?,
            category: self.category.clone().or_else(|| table.has_column("category").then(|| "category".to_owned())),
        })
    }
}

impl ResolvedColumns {
    /// Opens the images: the named column, else `image` or `images` if they can hold bytes,
    /// otherwise the column that ingest would choose.
    pub(super) fn images(&self, table: &ImportTable) -> Result<ImportFile, ImportError> {
        if self.image.is_none() {
            let mut usual = IMAGES.iter().filter_map(|name| table.images(Some(name)).ok());
            if let Some(images) = usual.find(ImportFile::can_hold_bytes) {
                return Ok(images);
            }
        }
        table.images(self.image.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_named_on_the_command_line() {
        let columns: BenchmarkColumns = "image=img, answer=reward_model.ground_truth".parse().expect("valid");
        assert_eq!(columns.image.as_deref(), Some("img"));
        assert_eq!(columns.answer.as_deref(), Some("reward_model.ground_truth"));
        assert_eq!(columns.question, None);
        for bad in ["", "image", "image=", "picture=a"] {
            assert!(bad.parse::<BenchmarkColumns>().is_err(), "{bad}");
        }
    }
}
