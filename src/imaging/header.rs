//! The header of an image file, and the limits that it must keep.

use super::error::ImageError;
use super::format::Format;
use super::orientation::Orientation;

/// Upper limits of a file and its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest file, in bytes.
    pub max_bytes: u64,
    /// Largest image, in pixels.
    pub max_pixels: u64,
    /// Largest ratio of the longer side to the shorter side.
    pub max_aspect_ratio: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_pixels: 64 << 20, max_aspect_ratio: 200 }
    }
}

/// Format, size and orientation of an image, as its header declares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Format, recognized by content.
    pub format: Format,
    /// Width in pixels as stored, before the orientation is applied.
    pub stored_width: u32,
    /// Height in pixels as stored.
    pub stored_height: u32,
    /// EXIF orientation.
    pub orientation: Orientation,
}

impl Header {
    /// Returns the width of the upright image in pixels.
    pub fn width(&self) -> u32 {
        if self.orientation.swaps_sides() { self.stored_height } else { self.stored_width }
    }

    /// Returns the height of the upright image in pixels.
    pub fn height(&self) -> u32 {
        if self.orientation.swaps_sides() { self.stored_width } else { self.stored_height }
    }

    /// Returns the header of an image that is stored upright.
    pub(super) fn upright(format: Format, width: u32, height: u32) -> Self {
        Self { format, stored_width: width, stored_height: height, orientation: Orientation::UPRIGHT }
    }

    /// Checks that a decoder found the size that the header declares.
    pub(super) fn check_same_size(&self, width: u32, height: u32) -> Result<(), ImageError> {
        let is_same = (width, height) == (self.stored_width, self.stored_height);
        is_same.then_some(()).ok_or_else(|| ImageError::corrupt("two headers that disagree"))
    }

    /// Returns the number of pixels.
    pub(super) fn pixels(&self) -> u64 {
        u64::from(self.stored_width) * u64::from(self.stored_height)
    }
}

impl Limits {
    /// Checks the size that a header declares against the limits.
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

/// Returns the `N` bytes at offset `at`, or an error if the file ends before them.
pub(super) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ImageError> {
    let slice = at.checked_add(N).and_then(|end| bytes.get(at..end));
    slice
        .and_then(|slice| slice.try_into().ok())
        .ok_or_else(|| ImageError::Truncated(format!("{} bytes end inside the header", bytes.len())))
}
