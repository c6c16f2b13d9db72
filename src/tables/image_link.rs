//! An image that is stored in a table or in a file next to it.

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, StringArray, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Fields};
use serde::{Deserialize, Serialize};

use super::cell::{Cell, CellError};

/// An image by its bytes or its path, as the `Image` feature of Hugging Face datasets stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLink {
    /// The file's bytes; null if they are only in the file.
    pub bytes: Option<Vec<u8>>,
    /// Path relative to the table's folder; only a name if the bytes are stored here, and empty
    /// without one.
    pub path: String,
}

/// Arrow fields of an image.
static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)])
});

/// Builds an array of images, each with its bytes, if they are stored, and its path.
pub(super) fn images<'a>(cells: impl Iterator<Item = Option<(Option<&'a Vec<u8>>, &'a String)>>) -> ArrayRef {
    let cells: Vec<_> = cells.collect();
    let nulls = NullBuffer::from_iter(cells.iter().map(Option::is_some));
    let bytes = BinaryArray::from_iter(cells.iter().map(|cell| cell.and_then(|(bytes, _)| bytes)));
    let paths = StringArray::from_iter(cells.iter().map(|cell| cell.map(|(_, path)| path)));
    Arc::new(StructArray::new(FIELDS.clone(), vec![Arc::new(bytes), Arc::new(paths)], Some(nulls)))
}

impl Cell for ImageLink {
    const DECLARED_NULLABLE: bool = true;

    fn data_type() -> DataType {
        DataType::Struct(FIELDS.clone())
    }

    fn array(cells: &mut dyn Iterator<Item = Option<&Self>>) -> ArrayRef {
        images(cells.map(|link| link.map(|link| (link.bytes.as_ref(), &link.path))))
    }

    fn read(array: &dyn Array, row: usize) -> Result<Self, CellError> {
        let link = array.as_struct();
        // The reader has checked that both exist and have these types.
        let (Some(bytes), Some(paths)) = (link.column_by_name("bytes"), link.column_by_name("path")) else {
            return Err(CellError::Null);
        };
        let bytes = (!bytes.is_null(row)).then(|| bytes.as_binary::<i32>().value(row).to_vec());
        match (paths.is_null(row), &bytes) {
            (true, None) => Err(CellError::Null),
            // An image that does not come from a file has no name.
            (true, Some(_)) => Ok(Self { bytes, path: String::new() }),
            (false, _) => Ok(Self { bytes, path: paths.as_string::<i32>().value(row).to_owned() }),
        }
    }

    fn byte_size(&self) -> usize {
        8 + self.bytes.as_ref().map_or(0, Vec::len) + self.path.len()
    }
}
