//! Benchmark files: items with their images, read into memory.
//!
//! Files follow one of several conventions: the image may be bytes, a struct with bytes or a path,
//! or a list with one of these; the answer may be a number. The item is the same in all of them.

use std::collections::BTreeMap;
use std::path::Path;

use super::columns::BenchmarkColumns;
use crate::ids::{Digest, ImageId, ItemId};
use crate::imaging::Limits;
use crate::stages::image_set::ImageFiles;
use crate::stages::linked_file::{reject_link, resolve_link};
use crate::stages::rejection::error_text;
use crate::stages::{Rejection, Result, StageError};
use crate::tables::import::{ImportError, ImportFile, ImportLimits, ImportTable, ImportedBytes, ImportedImage, Text};
use crate::tables::{self, RejectRow};

/// Marks the place of the image in a question, by the convention of EasyR1 and verl. Prompts say
/// themselves where the image is.
const IMAGE_TAG: &str = "<image>";

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

/// A row that is no item.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RejectedItem {
    /// Name of the benchmark.
    pub source: String,
    /// Row of the file, from 0.
    pub row: u64,
    /// Reason for the rejection.
    pub rejection: Rejection,
}

impl RejectedItem {
    /// Converts to the row of the `rejects` table of `stage`.
    pub fn to_row(&self, stage: &str) -> RejectRow {
        let row = self.rejection.clone().into_row(stage, self.source.clone(), None);
        RejectRow { subject_row: Some(self.row), ..row }
    }
}

/// A row of a benchmark.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum BenchmarkEntry {
    /// An item.
    Item(Item),
    /// A row that cannot be used.
    Rejected(RejectedItem),
}

impl BenchmarkEntry {
    /// Returns the item, unless the row is rejected.
    pub fn item(&self) -> Option<&Item> {
        if let Self::Item(item) = self { Some(item) } else { None }
    }

    /// Returns the rejection, if the row is rejected.
    pub fn rejected(&self) -> Option<&RejectedItem> {
        if let Self::Rejected(rejected) = self { Some(rejected) } else { None }
    }
}

/// A benchmark.
#[derive(Debug, Clone)]
pub struct Benchmark {
    /// Name: the file name without its extension.
    pub name: String,
    /// Rows, in the order of the file; at least one is an item.
    pub rows: Vec<BenchmarkEntry>,
    /// Image files by id.
    pub images: ImageFiles,
}

impl Benchmark {
    /// Reads the first rows of a Parquet file, at most `limit`, with an image, a question, an
    /// answer and optionally a category.
    ///
    /// # Errors
    /// The file cannot be read, lacks a column, or has no item.
    pub fn read(path: &Path, limit: usize, columns: &BenchmarkColumns) -> Result<Self> {
        tables::check_path(path)?;
        let failed = |e: ImportError| StageError::source(path, e.text_without_path(path));
        let image_bytes = usize::try_from(Limits::default().max_bytes).unwrap_or(usize::MAX);
        let limits = ImportLimits { image_bytes, ..ImportLimits::default() };
        let table = ImportTable::open(path, limits).map_err(failed)?;
        let columns = columns.resolve(&table, path)?;
        let images = columns.images(&table).map_err(failed)?;
        let limit = limit as u64;
        let mut questions = table.texts(&columns.question, limit).map_err(failed)?.into_iter();
        let mut answers = table.texts(&columns.answer, limit).map_err(failed)?.into_iter();
        let categories = columns.category.as_ref().map(|category| table.texts(category, limit)).transpose();
        let mut categories = categories.map_err(failed)?.unwrap_or_default().into_iter();
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut benchmark = Self { name, rows: Vec::new(), images: BTreeMap::new() };
        for row_images in images_by_row(&images, limit) {
            let next = |texts: &mut std::vec::IntoIter<Text>| texts.next().unwrap_or(Ok(None));
            let texts = [next(&mut questions), next(&mut answers), next(&mut categories)];
            benchmark.push(row_images.map_err(failed)?, texts, folder);
        }
        if benchmark.items().next().is_none() {
            return Err(no_items(path, benchmark.rejected().next()));
        }
        Ok(benchmark)
    }

    /// Returns the items, in the order of the file.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.rows.iter().filter_map(BenchmarkEntry::item)
    }

    /// Returns the rows that are no items, in the order of the file.
    pub fn rejected(&self) -> impl Iterator<Item = &RejectedItem> {
        self.rows.iter().filter_map(BenchmarkEntry::rejected)
    }

    fn push(&mut self, images: Vec<ImportedImage>, texts: [Text; 3], folder: &Path) {
        let number = self.rows.len() as u64;
        let entry = match self.item(number, images, texts, folder) {
            Ok(item) => BenchmarkEntry::Item(item),
            Err(rejection) => {
                BenchmarkEntry::Rejected(RejectedItem { source: self.name.clone(), row: number, rejection })
            }
        };
        self.rows.push(entry);
    }

    /// Returns the item of a row, whose image is added to the benchmark's.
    fn item(
        &mut self,
        number: u64,
        images: Vec<ImportedImage>,
        [question, answer, category]: [Text; 3],
        folder: &Path,
    ) -> Result<Item, Rejection> {
        let question = required("question", question)?;
        let gold = required("answer", answer)?;
        let category =
            category.map_err(|problem| Rejection::new("bad_category", format!("the category: {problem}")))?;
        let image = read_image(images, folder)?;
        let question = without_image_tag(question)?;
        let image_id = ImageId(Digest::of(&image));
        let parts = [&number.to_le_bytes()[..], image_id.0.as_bytes(), question.as_bytes(), gold.as_bytes()];
        let item_id = ItemId(Digest::derive("visplay 2026 benchmark item id", &parts));
        self.images.insert(image_id, image.into());
        Ok(Item { item_id, image_id, question, gold, category })
    }
}

fn no_items(path: &Path, first: Option<&RejectedItem>) -> StageError {
    let why = first.map_or_else(String::new, |RejectedItem { row, rejection, .. }| {
        format!(": no row can be used; row {row}: {}: {}", rejection.reason, rejection.detail)
    });
    StageError::source(path, format!("the benchmark has no items{why}"))
}

/// Returns the images of each row.
fn images_by_row(images: &ImportFile, limit: u64) -> impl Iterator<Item = Result<Vec<ImportedImage>, ImportError>> {
    let mut rest = images.rows_in(0..limit).peekable();
    std::iter::from_fn(move || {
        let mut row = match rest.next()? {
            Ok(first) => vec![first],
            Err(e) => return Some(Err(e)),
        };
        let number = row[0].row;
        while let Some(Ok(image)) = rest.next_if(|next| next.as_ref().is_ok_and(|image| image.row == number)) {
            row.push(image);
        }
        Some(Ok(row))
    })
}

fn required(what: &str, text: Text) -> Result<String, Rejection> {
    match text {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(Rejection::new(format!("no_{what}"), format!("the {what} is null"))),
        Err(problem) => Err(Rejection::new(format!("bad_{what}"), format!("the {what}: {problem}"))),
    }
}

/// Returns the bytes of the only image of a row.
fn read_image(images: Vec<ImportedImage>, folder: &Path) -> Result<Vec<u8>, Rejection> {
    let is_there = |image: &ImportedImage| {
        image.bytes != ImportedBytes::Null || image.path.as_ref().is_some_and(|path| !path.is_empty())
    };
    let mut there = images.into_iter().filter(is_there);
    let Some(image) = there.next() else { return Err(Rejection::new("no_image", "the row has no image")) };
    let more = there.count();
    if more > 0 {
        let problem = format!("the row has {} images; a question can have only one", more + 1);
        return Err(Rejection::new("several_images", problem));
    }
    let limit = Limits::default().max_bytes;
    let too_large = |n: u64| Rejection::new("too_large", format!("the image has {n} bytes, the limit is {limit}"));
    let link = match image.bytes {
        ImportedBytes::Bytes(bytes) => return Ok(bytes),
        ImportedBytes::TooLarge(n) => return Err(too_large(n as u64)),
        ImportedBytes::Null => image.path.unwrap_or_default(),
    };
    let path = resolve_link(&link, folder)?;
    let unreadable = |e: std::io::Error| reject_link(&link, &error_text(&e));
    let meta = path.metadata().map_err(unreadable)?;
    match meta.is_file() {
        false => Err(reject_link(&link, "it is not a file")),
        true if meta.len() > limit => Err(too_large(meta.len())),
        true => std::fs::read(&path).map_err(unreadable),
    }
}

/// Removes the tag of the image from a question, with the white space on one side of it.
fn without_image_tag(question: String) -> Result<String, Rejection> {
    let Some((before, after)) = question.split_once(IMAGE_TAG) else { return Ok(question) };
    if after.contains(IMAGE_TAG) {
        let n = question.matches(IMAGE_TAG).count();
        let problem = format!("the question has {n} {IMAGE_TAG} tags; a question can have only one image");
        return Err(Rejection::new("several_images", problem));
    }
    let after = if before.is_empty() || before.ends_with(char::is_whitespace) { after.trim_start() } else { after };
    Ok(if after.is_empty() { before.trim_end().to_owned() } else { format!("{before}{after}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_the_image_is_removed() {
        let removed = |question: &str| without_image_tag(question.to_owned());
        for (question, expected) in [
            ("Find x.", "Find x."),
            ("<image>Find x.", "Find x."),
            ("<image>\nFind x.", "Find x."),
            ("Find x. <image>", "Find x."),
            ("Look:\n<image>\nFind x.", "Look:\nFind x."),
            ("In <image> find x.", "In find x."),
            ("In<image> find x.", "In find x."),
        ] {
            assert_eq!(removed(question).as_deref(), Ok(expected));
        }
        assert_eq!(removed("<image> or <image>?").expect_err("two images").reason, "several_images");
    }
}
