//! What a file's header claims, and the limits it is held to before anything is decoded or allocated.

use super::error::ImageError;
use super::format::Format;
use super::orientation::Orientation;

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

    /// The header of an image that is stored upright.
    pub(super) fn upright(format: Format, width: u32, height: u32) -> Self {
        Self { format, stored_width: width, stored_height: height, orientation: Orientation::UPRIGHT }
    }

    /// Checks that the decoder found the size that the header declares.
    pub(super) fn check_same_size(&self, width: u32, height: u32) -> Result<(), ImageError> {
        let is_same = (width, height) == (self.stored_width, self.stored_height);
        is_same.then_some(()).ok_or_else(|| ImageError::corrupt("two headers that disagree"))
    }

    /// Number of pixels.
    pub(super) fn pixels(&self) -> u64 {
        u64::from(self.stored_width) * u64::from(self.stored_height)
    }
}

impl Limits {
    /// Checks the size that a header declares.
    pub(super) fn check(&self, header: &Header) -> Result<(), ImageError> {
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

/// `N` bytes at `at`, or the file ends too early.
pub(super) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ImageError> {
    let slice = at.checked_add(N).and_then(|end| bytes.get(at..end));
    slice
        .and_then(|slice| slice.try_into().ok())
        .ok_or_else(|| ImageError::Truncated(format!("{} bytes end inside the header", bytes.len())))
}
