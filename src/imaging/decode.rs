//! Decoding of a file of any format to upright RGB pixels.

use super::error::ImageError;
use super::format::Format;
use super::header::{Header, Limits};
use super::probe::probe;
use super::rgb::RgbImage;
use super::{bmp, gif, jpeg, png, tiff, webp};
use crate::panics::guarded;

/// A decoded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedImage {
    /// The header of its file.
    pub header: Header,
    /// Its upright pixels.
    pub pixels: RgbImage,
}

/// Decodes an image within limits.
///
/// The header is checked against the limits before anything is decoded or allocated, and a
/// decoder's memory is bounded by the number of pixels.
///
/// The pixels are those of Pillow's `ImageOps.exif_transpose(image).convert("RGB")`: palettes are
/// expanded, alpha is dropped (not blended), CMYK is converted. Samples of 16 bits are reduced to
/// their high byte. Grey images of 16 bits and more differ from Pillow, which saturates at 255: if
/// all samples fit into 8 bits they are kept as they are, as in Pillow, otherwise each is reduced
/// to its high byte. Grey floats within 0 to 1 are multiplied by 255; others are clamped, as in
/// Pillow.
///
/// # Errors
/// Every variant of [`ImageError`].
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<DecodedImage, ImageError> {
    let header = probe(bytes, limits)?;
    // A panic of a decoder on damaged input means that the file is corrupt; no state survives it.
    let stored = guarded(|| decode_stored(bytes, &header))
        .unwrap_or_else(|message| Err(ImageError::Corrupt(format!("the decoder gave up on it: {message}"))))?;
    Ok(DecodedImage { header, pixels: header.orientation.apply(stored) })
}

fn decode_stored(bytes: &[u8], header: &Header) -> Result<RgbImage, ImageError> {
    // The deepest pixel is 4 samples of 8 bytes; the rest is for a decoder's own tables.
    let budget = (header.pixels() as usize).saturating_mul(32).saturating_add(4 << 20);
    match header.format {
        Format::Png => png::decode_pixels(bytes, header, budget),
        Format::Jpeg => jpeg::decode_pixels(bytes, header),
        Format::WebP => webp::decode_pixels(bytes, header, allocation_limits(budget)),
        Format::Gif => gif::decode_pixels(bytes, header, budget),
        Format::Bmp => bmp::decode_pixels(bytes, header, allocation_limits(budget)),
        Format::Tiff => tiff::decode_pixels(bytes, header, budget),
    }
}

/// Returns the `image` crate's limits for a memory budget in bytes.
fn allocation_limits(budget: usize) -> image::Limits {
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(budget as u64);
    limits
}
