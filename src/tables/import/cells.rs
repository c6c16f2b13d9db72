//! Extraction of the images of a row from an Arrow array.

use std::collections::VecDeque;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_schema::DataType;

use super::column::{ColumnLayout, ImageColumn};
use super::error::ImportLimits;

/// An image of a Parquet file, before decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedImage {
    /// Row in the file, from 0.
    pub row: u64,
    /// Index in the row's list, from 0, if the column has lists; `None` also if the list is null or
    /// empty.
    pub item: Option<usize>,
    /// Path of the image according to the file.
    pub path: Option<String>,
    /// Bytes of the image.
    pub bytes: ImportedBytes,
}

/// The bytes of an image, unless missing or too many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportedBytes {
    /// The bytes.
    Bytes(Vec<u8>),
    /// The bytes are missing: a null, an empty list, or an image of which only the path is stored.
    Null,
    /// The image is larger than the limit, with this number of bytes.
    TooLarge(usize),
}

impl ImageColumn {
    /// Returns the images at `index` of `array`, which is row `row` of the file.
    pub(super) fn images(
        &self,
        array: &dyn Array,
        index: usize,
        row: u64,
        limits: &ImportLimits,
    ) -> Result<VecDeque<ImportedImage>, String> {
        let ColumnLayout::List(item_layout) = &self.layout else {
            return Ok([image(&self.layout, array, index, row, None, limits)?].into());
        };
        if array.is_null(index) {
            return Ok([missing_image(row)].into());
        }
        let list = array.as_list_opt::<i32>().ok_or("the column is not the list that its schema says")?;
        let items = list.value(index);
        if items.is_empty() {
            return Ok([missing_image(row)].into());
        }
        (0..items.len()).map(|item| image(item_layout, items.as_ref(), item, row, Some(item), limits)).collect()
    }
}

fn missing_image(row: u64) -> ImportedImage {
    ImportedImage { row, item: None, path: None, bytes: ImportedBytes::Null }
}

fn image(
    layout: &ColumnLayout,
    array: &dyn Array,
    index: usize,
    row: u64,
    item: Option<usize>,
    limits: &ImportLimits,
) -> Result<ImportedImage, String> {
    let mut image = ImportedImage { item, ..missing_image(row) };
    if array.is_null(index) {
        return Ok(image);
    }
    let bytes = match layout {
        ColumnLayout::File { has_bytes } => {
            let file = array.as_struct_opt().ok_or("the column is not the struct that its schema says")?;
            image.path = file.column_by_name("path").and_then(|paths| read_string(paths.as_ref(), index));
            match file.column_by_name("bytes") {
                Some(bytes) => read_binary(bytes.as_ref(), index)?,
                None if *has_bytes => return Err("the struct lost its field `bytes`".to_owned()),
                None => None,
            }
        }
        ColumnLayout::Path => {
            image.path = read_string(array, index);
            None
        }
        _ => read_binary(array, index)?,
    };
    image.bytes = match bytes {
        None => ImportedBytes::Null,
        Some(bytes) if bytes.len() > limits.image_bytes => ImportedBytes::TooLarge(bytes.len()),
        Some(bytes) => ImportedBytes::Bytes(bytes.to_vec()),
    };
    Ok(image)
}

/// Returns the string at `index`; `None` for a null, and for an array that has no strings.
fn read_string(array: &dyn Array, index: usize) -> Option<String> {
    let strings = array.as_string_opt::<i32>().filter(|strings| strings.is_valid(index))?;
    Some(strings.value(index).to_owned())
}

fn read_binary(array: &dyn Array, index: usize) -> Result<Option<&[u8]>, String> {
    if array.is_null(index) {
        return Ok(None);
    }
    match array.data_type() {
        DataType::Null => Ok(None),
        DataType::Binary => Ok(Some(array.as_binary::<i32>().value(index))),
        DataType::FixedSizeBinary(_) => Ok(Some(array.as_fixed_size_binary().value(index))),
        other => Err(format!("its bytes are {other}")),
    }
}
