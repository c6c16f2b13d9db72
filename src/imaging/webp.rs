//! WebP: size and orientation are read from the chunks here, the `image-webp` crate decodes the
//! pixels.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::error::ImageError;
use super::format::Format;
use super::header::{Header, bytes_at};
use super::orientation::Orientation;
use super::rgb::{RgbImage, first_three};

/// Reads size and orientation.
pub(super) fn read_header(bytes: &[u8]) -> Result<Header, ImageError> {
    let declared = u64::from(u32::from_le_bytes(bytes_at(bytes, 4)?)) + 8;
    if declared > bytes.len() as u64 {
        return Err(ImageError::Truncated(format!("{} bytes of {declared}", bytes.len())));
    }
    let (width, height) = match &bytes_at::<4>(bytes, 12)? {
        b"VP8X" => (1 + uint24(bytes_at(bytes, 24)?), 1 + uint24(bytes_at(bytes, 27)?)),
        b"VP8 " => {
            if bytes_at(bytes, 23)? != [0x9d, 0x01, 0x2a] {
                return Err(ImageError::corrupt("a lossy frame without its start code"));
            }
            let side = |at| bytes_at(bytes, at).map(|raw| u32::from(u16::from_le_bytes(raw) & 0x3fff));
            (side(26)?, side(28)?)
        }
        b"VP8L" => {
            if bytes_at(bytes, 20)? != [0x2f] {
                return Err(ImageError::corrupt("a lossless frame without its signature"));
            }
            let packed = u32::from_le_bytes(bytes_at(bytes, 21)?);
            (1 + (packed & 0x3fff), 1 + (packed >> 14 & 0x3fff))
        }
        other => return Err(ImageError::Corrupt(format!("a first chunk {:?}", String::from_utf8_lossy(other)))),
    };
    Ok(Header {
        format: Format::WebP,
        stored_width: width,
        stored_height: height,
        orientation: find_orientation(bytes),
    })
}

/// Decodes a 24-bit little-endian integer.
fn uint24(raw: [u8; 3]) -> u32 {
    u32::from_le_bytes([raw[0], raw[1], raw[2], 0])
}

/// Finds the orientation in the EXIF and XMP chunks.
fn find_orientation(bytes: &[u8]) -> Orientation {
    let (mut exif, mut xmp) = (None, None);
    let mut at = 12;
    while let (Ok(kind), Ok(length)) = (bytes_at::<4>(bytes, at), bytes_at::<4>(bytes, at + 4)) {
        let length = u32::from_le_bytes(length) as usize;
        let Some(body) = bytes.get(at + 8..at + 8 + length) else { break };
        match &kind {
            b"EXIF" => exif = exif.or(Some(body)),
            b"XMP " => xmp = xmp.or(Some(body)),
            _ => {}
        }
        at += 8 + length + length % 2;
    }
    Orientation::find(exif, xmp)
}

/// Decodes the pixels of the first frame with at most `budget` bytes of memory.
pub(super) fn decode_pixels(bytes: &[u8], header: &Header, budget: usize) -> Result<RgbImage, ImageError> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes))?;
    let (width, height) = decoder.dimensions();
    header.check_same_size(width, height)?;
    decoder.set_memory_limit(budget);
    let length = decoder.output_buffer_size().filter(|length| *length <= budget);
    let mut samples = vec![0; length.ok_or_else(|| ImageError::corrupt("an impossible size"))?];
    decoder.read_image(&mut samples)?;
    let data = if decoder.has_alpha() { first_three(&samples, 4) } else { samples };
    RgbImage::from_decoder(width, height, data)
}

impl From<DecodingError> for ImageError {
    fn from(error: DecodingError) -> Self {
        match error {
            DecodingError::IoError(error) => Self::from_memory_io(&error),
            DecodingError::MemoryLimitExceeded => Self::corrupt("it needs more memory than its size"),
            DecodingError::UnsupportedFeature(feature) => Self::Unsupported(format!("WebP with {feature}")),
            other => {
                let detail = other.to_string();
                if detail.contains("UnexpectedEof") || detail.contains("failed to fill whole buffer") {
                    Self::Truncated("the pixel data is cut off".to_owned())
                } else {
                    Self::Corrupt(detail)
                }
            }
        }
    }
}
