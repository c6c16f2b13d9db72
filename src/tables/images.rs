//! The `images` table: accepted images, each stored once and referenced by id everywhere else.

use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use serde::{Deserialize, Serialize};

use super::cell::{Cell, CellError};
use super::image_link::{ImageLink, images};
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
        /// Format, recognized by content: png, jpeg, webp, gif, bmp, tiff, heic or avif.
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

impl Cell for ImageFile {
    const DECLARED_NULLABLE: bool = true;

    fn data_type() -> DataType {
        ImageLink::data_type()
    }

    fn array(cells: &mut dyn Iterator<Item = Option<&Self>>) -> ArrayRef {
        images(cells.map(|file| file.map(|file| (Some(&file.bytes), &file.path))))
    }

    fn read(array: &dyn Array, row: usize) -> Result<Self, CellError> {
        let ImageLink { bytes, path } = ImageLink::read(array, row)?;
        Ok(Self { bytes: bytes.ok_or(CellError::Null)?, path })
    }

    fn byte_size(&self) -> usize {
        8 + self.bytes.len() + self.path.len()
    }
}
