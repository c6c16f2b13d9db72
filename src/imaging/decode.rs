//! Decoding of a file of any format to upright RGB pixels.

use super::error::ImageError;
use super::format::Format;
use super::header::{Header, Limits};
use super::probe::probe;
use super::rgb::RgbImage;
use super::{bmp, gif, jpeg, png, tiff, webp};
use crate::panics::guarded;

/// Pixels below this are dark: the high byte of 16 bits that hold samples of 14 bits or fewer.
const DARK: u8 = 64;

/// A decoded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedImage {
    /// The header of its file.
    pub header: Header,
    /// Its upright pixels.
    pub pixels: RgbImage,
    /// Whether its samples, some above 255, were reduced to their high byte and all pixels are
    /// dark: the samples probably have 12 or 14 bits, of which that byte keeps little.
    pub is_reduced_to_dark: bool,
}

/// Decodes an image within limits.
///
/// The header is checked against the limits before anything is decoded or allocated, and a
/// decoder's memory is bounded by the number of pixels.
///
/// The pixels are those of Pillow's `ImageOps.exif_transpose(image).convert("RGB")`, with the
/// differences that the [module](super) lists: palettes are expanded, alpha is dropped (not
/// blended; a TIFF whose colours are multiplied by alpha is divided by it), CMYK is converted.
/// Samples of 16 bits are reduced to their high byte. Grey images of 16 bits and more differ from
/// Pillow, which saturates at 255: if all samples fit into 8 bits they are kept as they are, as in
/// Pillow, otherwise each is reduced to its high byte. Grey floats within 0 to 1 are multiplied by
/// 255; others are clamped, as in Pillow.
///
/// # Errors
/// Every variant of [`ImageError`].
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<DecodedImage, ImageError> {
    let header = probe(bytes, limits)?;
    // A panic of a decoder on damaged input means that the file is corrupt; no state survives it.
    let (stored, is_reduced) = guarded(|| decode_stored(bytes, &header))
        .unwrap_or_else(|message| Err(ImageError::Corrupt(format!("the decoder gave up on it: {message}"))))?;
    let is_reduced_to_dark = is_reduced && stored.data().iter().all(|value| *value < DARK);
    Ok(DecodedImage { header, pixels: header.orientation.apply(stored), is_reduced_to_dark })
}

/// Decodes the stored pixels, and tells whether samples above 255 were reduced to their high byte.
fn decode_stored(bytes: &[u8], header: &Header) -> Result<(RgbImage, bool), ImageError> {
    // The deepest pixel is 4 samples of 8 bytes; the rest is for a decoder's own tables.
    let budget = (header.pixels() as usize).saturating_mul(32).saturating_add(4 << 20);
    let pixels = match header.format {
        Format::Png => return png::decode_pixels(bytes, header, budget),
        Format::Tiff => return tiff::decode_pixels(bytes, header, budget),
        Format::Jpeg => jpeg::decode_pixels(bytes, header),
        Format::WebP => webp::decode_pixels(bytes, header, budget),
        Format::Gif => gif::decode_pixels(bytes, header, budget),
        Format::Bmp => bmp::decode_pixels(bytes, header),
        #[cfg(feature = "heic")]
        Format::Heic => super::heif::decode_pixels(bytes, header),
        #[cfg(feature = "avif")]
        Format::Avif => super::heif::decode_pixels(bytes, header),
    }?;
    Ok((pixels, false))
}
