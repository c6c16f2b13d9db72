//! What a file's header claims, and the limits it is held to before anything is decoded or allocated.

use super::error::ImageError;
use super::format::Format;
use super::orientation::Orientation;
use super::{gif, jpeg, png, tiff, webp};

/// The most that a file and its image may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of a file.
    pub max_bytes: u64,
    /// The most pixels of an image.
    pub max_pixels: u64,
    /// The most times that the longer side may be the shorter.
    pub max_aspect_ratio: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_pixels: 64 << 20, max_aspect_ratio: 200 }
    }
}

/// What the header of an accepted file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The format, by content.
    pub format: Format,
    /// Width as stored, before the orientation is applied.
    pub stored_width: u32,
    /// Height as stored.
    pub stored_height: u32,
    /// EXIF orientation.
    pub orientation: Orientation,
}

impl Header {
    /// Width of the upright image.
    pub fn width(&self) -> u32 {
        if self.orientation.swaps_sides() { self.stored_height } else { self.stored_width }
    }

    /// Height of the upright image.
    pub fn height(&self) -> u32 {
        if self.orientation.swaps_sides() { self.stored_width } else { self.stored_height }
    }

    pub(super) fn pixels(&self) -> u64 {
        u64::from(self.stored_width) * u64::from(self.stored_height)
    }
}

/// Reads the header and holds it to the limits, without decoding.
///
/// # Errors
/// Any reason of [`ImageError`]; a file that passes may still be found truncated or corrupt by
/// [`decode`](super::decode()).
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<Header, ImageError> {
    let size = bytes.len() as u64;
    if size > limits.max_bytes {
        return Err(ImageError::TooLarge { bytes: size, limit: limits.max_bytes });
    }
    let format = Format::sniff(bytes)?;
    let (stored_width, stored_height, orientation) = match format {
        Format::Png => png::read_header(bytes)?,
        Format::Jpeg => jpeg::read_header(bytes)?,
        Format::WebP => webp::read_header(bytes)?,
        Format::Gif => gif::read_header(bytes)?,
        Format::Bmp => read_bitmap_header(bytes)?,
        Format::Tiff => tiff::read_header(bytes)?,
    };
    let header = Header { format, stored_width, stored_height, orientation };
    limits.check(&header)?;
    Ok(header)
}

impl Limits {
    fn check(&self, header: &Header) -> Result<(), ImageError> {
        let (width, height) = (header.stored_width, header.stored_height);
        if width == 0 || height == 0 {
            return Err(ImageError::ZeroSized { width, height });
        }
        if header.pixels() > self.max_pixels {
            return Err(ImageError::Bomb { width, height, limit: self.max_pixels });
        }
        let (short, long) = (u64::from(width.min(height)), u64::from(width.max(height)));
        if long > short * u64::from(self.max_aspect_ratio) {
            return Err(ImageError::AspectRatio { width, height, limit: self.max_aspect_ratio });
        }
        Ok(())
    }
}

/// Width, height and orientation, as every format's header reader answers.
pub(super) type Claim = (u32, u32, Orientation);

/// `N` bytes at `at`, or the file ends too early.
pub(super) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ImageError> {
    let slice = at.checked_add(N).and_then(|end| bytes.get(at..end));
    slice
        .and_then(|slice| slice.try_into().ok())
        .ok_or_else(|| ImageError::Truncated(format!("{} bytes end inside the header", bytes.len())))
}

/// BITMAPCOREHEADER has 16-bit sides, every later header 32-bit ones; a negative height stores rows from the top.
fn read_bitmap_header(bytes: &[u8]) -> Result<Claim, ImageError> {
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
    Ok((width, height, Orientation::UPRIGHT))
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
    fn limits_are_held_by_the_header_alone() {
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
