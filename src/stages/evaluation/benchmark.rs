//! A benchmark file, read whole: items with their images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::ids::{Digest, ImageId, ItemId};
use crate::stages::StageError;
use crate::stages::image_set::ImageFiles;
use crate::tables::{self, BenchmarkCategory, BenchmarkItem, TableError};

/// An item.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Item {
    /// Its id.
    pub item_id: ItemId,
    /// Its image.
    pub image_id: ImageId,
    /// Its question.
    pub question: String,
    /// The right answer.
    pub gold: String,
    /// The benchmark's own division; `None` without one.
    pub category: Option<String>,
}

/// A benchmark.
#[derive(Debug, Clone)]
pub struct Benchmark {
    /// Its name: the file's, without the ending.
    pub name: String,
    /// Its items.
    pub items: Vec<Item>,
    /// The files of its images.
    pub images: ImageFiles,
}

impl Benchmark {
    /// Reads a Parquet file with the columns `image`, `question`, `answer` and, if it has one, `category`. At most `limit` items.
    ///
    /// # Errors
    /// The file cannot be read, lacks a column, or has no items.
    pub fn read(path: &Path, limit: usize) -> Result<Self, StageError> {
        let source = |problem: String| StageError::Source { path: PathBuf::from(path), problem };
        let bytes = Bytes::from(std::fs::read(path).map_err(|e| source(e.to_string()))?);
        let file = path.display().to_string();
        let rows: Vec<BenchmarkItem> = tables::read(file.clone(), bytes.clone())?;
        let categories: Vec<Option<String>> = match tables::read::<BenchmarkCategory>(file, bytes) {
            Ok(rows) => rows.into_iter().map(|row| Some(row.category)).collect(),
            Err(TableError::MissingColumn { .. }) => vec![None; rows.len()],
            Err(e) => return Err(e.into()),
        };
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let (mut items, mut images) = (Vec::new(), BTreeMap::new());
        for (n, (row, category)) in rows.into_iter().zip(categories).enumerate().take(limit) {
            let image_id = ImageId(Digest::of(&row.image.bytes));
            let number = (n as u64).to_le_bytes();
            let parts = [&number[..], image_id.0.as_bytes(), row.question.as_bytes(), row.answer.as_bytes()];
            let item_id = ItemId(Digest::derive("visplay 2026 benchmark item id", &parts));
            images.insert(image_id, row.image.bytes.into());
            items.push(Item { item_id, image_id, question: row.question, gold: row.answer, category });
        }
        if items.is_empty() {
            return Err(source("there are no items in it".into()));
        }
        Ok(Self { name, items, images })
    }
}
