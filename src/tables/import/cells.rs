//! The images of a row, whatever shape its column has.

use std::collections::VecDeque;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;

use super::column::{ColumnLayout, ImageColumn};
use super::error::ImportLimits;

/// An image of a foreign file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedImage {
    /// The row in the file, from 0.
    pub row: u64,
    /// Where the column holds lists, the number in its list, from 0; `None` also for a row whose list is null or empty.
    pub item: Option<usize>,
    /// The name that the file gives to the image.
    pub path: Option<String>,
    /// Its bytes.
    pub bytes: ImportedBytes,
}

/// The bytes of a foreign image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportedBytes {
    /// The bytes.
    Bytes(Vec<u8>),
    /// There are none: a null, or an empty list.
    Null,
    /// More than the limit: their number.
    TooLarge(usize),
}

impl ImageColumn {
    /// The images at `index` of `array`, which is row `row` of the file.
    pub(super) fn images(
        &self,
        array: &dyn Array,
        index: usize,
        row: u64,
        limits: &ImportLimits,
    ) -> Result<VecDeque<ImportedImage>, String> {
        let ColumnLayout::List(item_shape) = self.shape() else {
            return Ok([image(self.shape(), array, index, row, None, limits)?].into());
        };
        if array.is_null(index) {
            return Ok([nothing(row)].into());
        }
        let list = array.as_list_opt::<i32>().ok_or("the column is not the list that its schema says")?;
        let items = list.value(index);
        if items.is_empty() {
            return Ok([nothing(row)].into());
        }
        (0..items.len()).map(|item| image(item_shape, items.as_ref(), item, row, Some(item), limits)).collect()
    }
}

fn nothing(row: u64) -> ImportedImage {
    ImportedImage { row, item: None, path: None, bytes: ImportedBytes::Null }
}

fn image(
    shape: &ColumnLayout,
    array: &dyn Array,
    index: usize,
    row: u64,
    item: Option<usize>,
    limits: &ImportLimits,
) -> Result<ImportedImage, String> {
    let mut image = ImportedImage { item, ..nothing(row) };
    if array.is_null(index) {
        return Ok(image);
    }
    let bytes = match shape {
        ColumnLayout::File => {
            let file = array.as_struct_opt().ok_or("the column is not the struct that its schema says")?;
            let paths = file.column_by_name("path").and_then(|paths| paths.as_string_opt::<i32>());
            image.path = paths.filter(|paths| paths.is_valid(index)).map(|paths| paths.value(index).to_owned());
            let bytes = file.column_by_name("bytes").ok_or("the struct lost its field `bytes`")?;
            binary(bytes.as_ref(), index)?
        }
        _ => binary(array, index)?,
    };
    image.bytes = match bytes {
        None => ImportedBytes::Null,
        Some(bytes) if bytes.len() > limits.image_bytes => ImportedBytes::TooLarge(bytes.len()),
        Some(bytes) => ImportedBytes::Bytes(bytes.to_vec()),
    };
    Ok(image)
}

fn binary(array: &dyn Array, index: usize) -> Result<Option<&[u8]>, String> {
    if array.is_null(index) {
        return Ok(None);
    }
    match array.data_type() {
        DataType::Binary => Ok(Some(array.as_binary::<i32>().value(index))),
        DataType::FixedSizeBinary(_) => Ok(Some(array.as_fixed_size_binary().value(index))),
        other => Err(format!("its bytes are {other}")),
    }
}
