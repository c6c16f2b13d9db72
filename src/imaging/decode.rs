//! From bytes to upright RGB pixels.

use super::error::ImageError;
use super::format::Format;
use super::header::{Header, Limits};
use super::probe::probe;
use super::rgb::RgbImage;
use super::{bmp, gif, jpeg, png, tiff, webp};
use crate::panics::guarded;

/// An accepted image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedImage {
    /// What the header said.
    pub header: Header,
    /// The upright pixels.
    pub pixels: RgbImage,
}

/// Decodes an image under limits: the header is held to them before anything is decoded or allocated, and the decoder
/// may use memory in proportion to the image's pixels only.
///
/// The pixels are those of Pillow's `ImageOps.exif_transpose(image).convert("RGB")`: palettes expanded, alpha dropped
/// (not blended), CMYK converted. Samples of 16 bits give their high byte. For grey images of 16 bits and more Pillow
/// saturates at 255 instead; here samples that all fit 8 bits are taken as they are, as Pillow does, and others by the high
/// byte. Grey floats within 0 to 1 are scaled by 255, others clamped as Pillow does.
///
/// # Errors
/// Every reason of [`ImageError`].
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<DecodedImage, ImageError> {
    let header = probe(bytes, limits)?;
    // a decoder that panics on damaged input has found it corrupt; nothing it touched outlives it
    let stored = guarded(|| decode_stored(bytes, &header))
        .unwrap_or_else(|message| Err(ImageError::Corrupt(format!("the decoder gave up on it: {message}"))))?;
    Ok(DecodedImage { header, pixels: header.orientation.apply(stored) })
}

fn decode_stored(bytes: &[u8], header: &Header) -> Result<RgbImage, ImageError> {
    // the deepest pixel is 4 samples of 8 bytes; the rest is for a decoder's own tables
    let budget = (header.pixels() as usize).saturating_mul(32).saturating_add(4 << 20);
    match header.format {
        Format::Png => png::decode_pixels(bytes, header, budget),
        Format::Jpeg => jpeg::decode_pixels(bytes, header),
        Format::WebP => webp::decode_pixels(bytes, header, allocation(budget)),
        Format::Gif => gif::decode_pixels(bytes, header, budget),
        Format::Bmp => bmp::decode_pixels(bytes, header, allocation(budget)),
        Format::Tiff => tiff::decode_pixels(bytes, header, budget),
    }
}

fn allocation(budget: usize) -> image::Limits {
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(budget as u64);
    limits
}
