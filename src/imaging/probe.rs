//! Header reading for every format, with limits checked before anything is decoded or allocated.

use super::error::ImageError;
use super::format::Format;
use super::header::{Header, Limits};
use super::{bmp, gif, jpeg, png, tiff, webp};

/// Reads a file's header and checks it against the limits, without decoding any pixel.
///
/// # Errors
/// Every variant of [`ImageError`]. A file that passes may still turn out to be truncated or
/// corrupt in `decode`.
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<Header, ImageError> {
    let size = bytes.len() as u64;
    if size > limits.max_bytes {
        return Err(ImageError::TooLarge { bytes: size, limit: limits.max_bytes });
    }
    let header = match Format::sniff(bytes)? {
        Format::Png => png::read_header(bytes),
        Format::Jpeg => jpeg::read_header(bytes),
        Format::WebP => webp::read_header(bytes),
        Format::Gif => gif::read_header(bytes),
        Format::Bmp => bmp::read_header(bytes),
        Format::Tiff => tiff::read_header(bytes),
        #[cfg(feature = "heic")]
        Format::Heic => super::heif::read_header(bytes, Format::Heic),
        #[cfg(feature = "avif")]
        Format::Avif => super::heif::read_header(bytes, Format::Avif),
    }?;
    limits.check(&header)?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmap(width: i32, height: i32) -> Vec<u8> {
        let mut bytes = b"BM".to_vec();
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&40u32.to_le_bytes());
        bytes.extend_from_slice(&width.to_le_bytes());
        bytes.extend_from_slice(&height.to_le_bytes());
        bytes
    }

    #[test]
    fn limits_are_checked_by_the_header_alone() {
        let limits = Limits { max_bytes: 1000, max_pixels: 10_000, max_aspect_ratio: 10 };
        let reason = |bytes: &[u8]| probe(bytes, &limits).map_err(|error| error.reason());
        assert!(reason(&bitmap(100, -100)).is_ok());
        assert_eq!(reason(&bitmap(101, 100)), Err("bomb"));
        assert_eq!(reason(&bitmap(i32::MAX, i32::MIN)), Err("bomb"));
        assert_eq!(reason(&bitmap(101, 10)), Err("aspect_ratio"));
        assert_eq!(reason(&bitmap(0, 10)), Err("zero_sized"));
        assert_eq!(reason(&bitmap(-3, 10)), Err("corrupt"));
        assert_eq!(reason(&bitmap(3, 10)[..22]), Err("truncated"));
        assert_eq!(reason(&[0; 1001]), Err("too_large"));
        assert_eq!(reason(&[]), Err("empty"));
    }
}
