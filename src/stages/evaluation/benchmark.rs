//! Benchmark files: items with their images, read into memory.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use crate::ids::{Digest, ImageId, ItemId};
use crate::stages::image_set::ImageFiles;
use crate::stages::{Result, StageError};
use crate::tables::{self, BenchmarkCategory, BenchmarkItem, TableError};

/// An item of a benchmark.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Item {
    /// Id of the item.
    pub item_id: ItemId,
    /// Id of its image.
    pub image_id: ImageId,
    /// Question.
    pub question: String,
    /// Correct answer.
    pub gold: String,
    /// Category within the benchmark; `None` where it has none.
    pub category: Option<String>,
}

/// A benchmark.
#[derive(Debug, Clone)]
pub struct Benchmark {
    /// Name: the file name without its extension.
    pub name: String,
    /// Items, in the order of the file.
    pub items: Vec<Item>,
    /// Image files by id.
    pub images: ImageFiles,
}

impl Benchmark {
    /// Reads at most `limit` items of a Parquet file with the columns `image`, `question`, `answer`
    /// and, optionally, `category`.
    ///
    /// # Errors
    /// The file cannot be read, lacks a column, or has no items.
    pub fn read(path: &Path, limit: usize) -> Result<Self> {
        tables::check_path(path)?;
        let bytes = Bytes::from(std::fs::read(path).map_err(StageError::read(path))?);
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
            return Err(StageError::source(path, "the benchmark has no items"));
        }
        Ok(Self { name, items, images })
    }
}
