//! `images`: the accepted images, each once, referred to by id everywhere else.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use serde::{Deserialize, Serialize};

use super::cell::{Cell, CellError};
use super::row::table;
use crate::ids::ImageId;

table! {
    /// An accepted image.
    #[table("images")]
    pub struct ImageRow {
        /// The image's id: the blake3 digest of its original bytes.
        pub image_id: ImageId,
        /// The original file: its bytes, unchanged, and its name. Never null, though declared so: Hugging Face datasets take
        /// only a nullable struct of nullable fields for an image.
        pub image: ImageFile,
        /// Width in pixels of the upright image, after its EXIF orientation.
        pub width: u32,
        /// Height in pixels of the upright image, after its EXIF orientation.
        pub height: u32,
        /// The format by content: png, jpeg, webp, gif, bmp or tiff.
        pub format: String,
        /// The EXIF orientation tag, 1 to 8; 1 is upright and stands for none.
        pub orientation: u32,
        /// Length of the original file in bytes.
        pub size: u64,
        /// The perceptual hash, 64 bits: the fewer bits differ, the more alike two images look.
        pub perceptual_hash: u64,
        /// Where the image was first found: a path, as the source names it.
        pub source: String,
        /// The row in a source that is a table, from 0; null for a file.
        pub source_row: Option<u64>,
    }
}

table! {
    /// What near-duplicate detection and the choice of images need of an image, without its bytes.
    #[view("images")]
    pub struct ImageFacts {
        /// The image's id.
        pub image_id: ImageId,
        /// Width in pixels of the upright image.
        pub width: u32,
        /// Height in pixels of the upright image.
        pub height: u32,
        /// The perceptual hash.
        pub perceptual_hash: u64,
    }
}

table! {
    /// Where an image comes from, without its bytes.
    #[view("images")]
    pub struct ImageOrigin {
        /// The image's id.
        pub image_id: ImageId,
        /// Width in pixels of the upright image.
        pub width: u32,
        /// Height in pixels of the upright image.
        pub height: u32,
        /// The format by content.
        pub format: String,
        /// Length of the original file in bytes.
        pub size: u64,
        /// Where the image was first found.
        pub source: String,
        /// The row in a source that is a table; null for a file.
        pub source_row: Option<u64>,
    }
}

/// An image file inside a table, as Hugging Face datasets' `Image` feature stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFile {
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// The file's name; empty where there is none.
    pub path: String,
}

/// The fields of an image.
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
        // The reader has checked that both are there and of these types.
        let (Some(bytes), Some(paths)) = (file.column_by_name("bytes"), file.column_by_name("path")) else {
            return Err(CellError::Null);
        };
        if bytes.is_null(row) {
            return Err(CellError::Null);
        }
        let bytes = bytes.as_binary::<i32>().value(row).to_vec();
        // An image that never was a file has no name.
        let path = if paths.is_null(row) { "" } else { paths.as_string::<i32>().value(row) };
        Ok(Self { bytes, path: path.to_owned() })
    }

    fn byte_size(&self) -> usize {
        8 + self.bytes.len() + self.path.len()
    }
}
