//! The `images` table: accepted images, each stored once and referenced by id everywhere else.

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, StringArray, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Fields};
use serde::{Deserialize, Serialize};

use super::cell::{Cell, CellError};
use super::row::table;
use crate::ids::ImageId;

table! {
    /// An accepted image.
    #[table("images")]
    pub struct ImageRow {
        /// Id of the image: the BLAKE3 digest of its original bytes.
        pub image_id: ImageId,
        /// Original file: unchanged bytes and name. Never null, though declared nullable, since
        /// Hugging Face datasets recognize only a nullable struct of nullable fields as an image.
        pub image: ImageFile,
        /// Width in pixels of the upright image, after applying its EXIF orientation.
        pub width: u32,
        /// Height in pixels of the upright image, after applying its EXIF orientation.
        pub height: u32,
        /// Format, recognized by content: png, jpeg, webp, gif, bmp or tiff.
        pub format: String,
        /// EXIF orientation tag, 1 to 8; 1 is upright, also for files without a tag.
        pub orientation: u32,
        /// Size of the original file in bytes.
        pub size: u64,
        /// Perceptual hash of 64 bits; the fewer bits differ, the more similar two images look.
        pub perceptual_hash: u64,
        /// Path within the source where the image was first found.
        pub source: String,
        /// Row of the source if it is a table, from 0; null for a file.
        pub source_row: Option<u64>,
    }
}

table! {
    /// Properties of an image for near-duplicate detection and image selection, without its bytes.
    #[view("images")]
    pub struct ImageFacts {
        /// Id of the image.
        pub image_id: ImageId,
        /// Width in pixels of the upright image.
        pub width: u32,
        /// Height in pixels of the upright image.
        pub height: u32,
        /// Perceptual hash.
        pub perceptual_hash: u64,
    }
}

table! {
    /// Origin and properties of an image, without its bytes.
    #[view("images")]
    pub struct ImageOrigin {
        /// Id of the image.
        pub image_id: ImageId,
        /// Width in pixels of the upright image.
        pub width: u32,
        /// Height in pixels of the upright image.
        pub height: u32,
        /// Format, recognized by content.
        pub format: String,
        /// Size of the original file in bytes.
        pub size: u64,
        /// Path within the source where the image was first found.
        pub source: String,
        /// Row of the source if it is a table; null for a file.
        pub source_row: Option<u64>,
    }
}

/// An image file inside a table, as the `Image` feature of Hugging Face datasets stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFile {
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// The file's name; empty without one.
    pub path: String,
}

/// Arrow fields of an image.
pub(super) static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)])
});

impl Cell for ImageFile {
    const DECLARED_NULLABLE: bool = true;

    fn data_type() -> DataType {
        DataType::Struct(FIELDS.clone())
    }

    fn array(cells: &mut dyn Iterator<Item = Option<&Self>>) -> ArrayRef {
        let files: Vec<Option<&Self>> = cells.collect();
        let nulls = NullBuffer::from_iter(files.iter().map(Option::is_some));
        let bytes = BinaryArray::from_iter(files.iter().map(|file| file.map(|file| &file.bytes)));
        let paths = StringArray::from_iter(files.iter().map(|file| file.map(|file| &file.path)));
        Arc::new(StructArray::new(FIELDS.clone(), vec![Arc::new(bytes), Arc::new(paths)], Some(nulls)))
    }

    fn read(array: &dyn Array, row: usize) -> Result<Self, CellError> {
        let file = array.as_struct();
        // The reader has checked that both exist and have these types.
        let (Some(bytes), Some(paths)) = (file.column_by_name("bytes"), file.column_by_name("path")) else {
            return Err(CellError::Null);
        };
        if bytes.is_null(row) {
            return Err(CellError::Null);
        }
        let bytes = bytes.as_binary::<i32>().value(row).to_vec();
        // An image that does not come from a file has no name.
        let path = if paths.is_null(row) { "" } else { paths.as_string::<i32>().value(row) };
        Ok(Self { bytes, path: path.to_owned() })
    }

    fn byte_size(&self) -> usize {
        8 + self.bytes.len() + self.path.len()
    }
}
