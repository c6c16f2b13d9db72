//! Windows bitmaps: the header is read here, the pixels by the `image` crate.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::{DynamicImage, ImageDecoder};

use super::error::ImageError;
use super::format::Format;
use super::header::{Header, bytes_at};
use super::rgb::RgbImage;

/// Reads the size. BITMAPCOREHEADER has 16-bit sides, every later header 32-bit ones; with a
/// negative height the rows are stored from the top.
pub(super) fn read_header(bytes: &[u8]) -> Result<Header, ImageError> {
    let header_size = u32::from_le_bytes(bytes_at(bytes, 14)?);
    let (width, height) = if header_size == 12 {
        let width = u16::from_le_bytes(bytes_at(bytes, 18)?);
        let height = u16::from_le_bytes(bytes_at(bytes, 20)?);
        (i32::from(width), u32::from(height))
    } else {
        let width = i32::from_le_bytes(bytes_at(bytes, 18)?);
        (width, i32::from_le_bytes(bytes_at(bytes, 22)?).unsigned_abs())
    };
    let width = u32::try_from(width).map_err(|_| ImageError::Corrupt(format!("a width of {width}")))?;
    Ok(Header::upright(Format::Bmp, width, height))
}

/// Decodes the pixels.
pub(super) fn decode_pixels(bytes: &[u8], header: &Header, limits: image::Limits) -> Result<RgbImage, ImageError> {
    let mut decoder = BmpDecoder::new(Cursor::new(bytes))?;
    let (width, height) = decoder.dimensions();
    header.check_same_size(width, height)?;
    decoder.set_limits(limits)?;
    let data = DynamicImage::from_decoder(decoder)?.into_rgb8().into_raw();
    RgbImage::from_decoder(width, height, data)
}
