//! HEIF containers: HEIC (HEVC) and AVIF (AV1), with one coded picture or a grid of tiles.
//!
//! | file | subject |
//! |---|---|
//! | `container.rs` | the primary item: size, crop, orientation, tiles |
//! | `picture.rs` | planes of samples, and their assembly from tiles |
//! | `heic.rs` | HEIC: pixels of pillow-heif 1.8 (libheif 1.23) |
//! | `avif.rs` | AVIF: pixels of Pillow 13 (libavif 1.4 with libyuv) |
//!
//! The crate `heifer-isobmff` reads the boxes. Rare kinds of images are rejected: overlays, layers,
//! colours multiplied by alpha, sequences without a still image, and colours that are not
//! RGB or a matrix of BT.601, BT.709 or BT.2020.

#[cfg(feature = "avif")]
mod avif;
mod container;
#[cfg(feature = "heic")]
mod heic;
mod picture;

use super::error::ImageError;
use super::format::Format;
use super::header::Header;
use super::rgb::RgbImage;
use container::PrimaryItem;

/// Reads size and orientation.
pub(super) fn read_header(bytes: &[u8], format: Format) -> Result<Header, ImageError> {
    PrimaryItem::read(bytes, format).map(|item| item.header())
}

/// Decodes the pixels of the primary item.
pub(super) fn decode_pixels(bytes: &[u8], header: &Header) -> Result<RgbImage, ImageError> {
    let item = PrimaryItem::read(bytes, header.format)?;
    let pixels = match header.format {
        #[cfg(feature = "avif")]
        Format::Avif => avif::decode_pixels(&item)?,
        #[cfg(feature = "heic")]
        Format::Heic => heic::decode_pixels(&item)?,
        _ => return Err(ImageError::corrupt("not a HEIF container")),
    };
    header.check_same_size(pixels.width(), pixels.height())?;
    Ok(pixels)
}
