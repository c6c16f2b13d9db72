//! RGB images in memory, and the conversion of other pixel types to RGB.

use super::error::ImageError;

/// An image of 8-bit RGB pixels, stored row by row without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl RgbImage {
    /// Wraps `data` of shape `[height, width, 3]`; `None` if it has a different length.
    pub fn new(width: u32, height: u32, data: Vec<u8>) -> Option<Self> {
        (data.len() as u64 == u64::from(width) * u64::from(height) * 3).then_some(Self { width, height, data })
    }

    /// Wraps the pixels that a decoder returned; a wrong length means a corrupt file.
    pub(super) fn from_decoder(width: u32, height: u32, data: Vec<u8>) -> Result<Self, ImageError> {
        Self::new(width, height, data).ok_or_else(|| ImageError::corrupt("pixels and size disagree"))
    }

    /// Returns the width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Returns the height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Returns the samples, of shape `[height, width, 3]`.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Returns the samples without copying them.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }
}

/// Converts grey samples to RGB.
pub(super) fn grey_to_rgb(grey: impl ExactSizeIterator<Item = u8>) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(grey.len() * 3);
    for value in grey {
        rgb.extend_from_slice(&[value; 3]);
    }
    rgb
}

/// Keeps the first three samples of each pixel, which drops alpha without blending.
pub(super) fn first_three(samples: &[u8], per_pixel: usize) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(samples.len() / per_pixel * 3);
    for pixel in samples.chunks_exact(per_pixel) {
        rgb.extend_from_slice(&pixel[..3]);
    }
    rgb
}

/// Converts CMYK samples (0 = no ink) to RGB as Pillow's `cmyk2rgb`:
/// `(255 - k) - round(c * (255 - k) / 255)`.
pub(super) fn cmyk_to_rgb(samples: &[u8], per_pixel: usize) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(samples.len() / per_pixel * 3);
    for pixel in samples.chunks_exact(per_pixel) {
        let white = 255 - u32::from(pixel[3]);
        for ink in &pixel[..3] {
            let product = u32::from(*ink) * white + 128;
            let darkened = (product + (product >> 8)) >> 8;
            rgb.push((white.saturating_sub(darkened)) as u8);
        }
    }
    rgb
}

/// Divides RGB by the alpha that follows it and drops the alpha, as Pillow does: rounded down, at
/// most 255, and black where alpha is 0.
pub(super) fn divide_by_alpha(samples: &[u8]) -> Vec<u8> {
    let divide = |value: u8, alpha: u8| match alpha {
        0 => 0,
        _ => (u32::from(value) * 255 / u32::from(alpha)).min(255) as u8,
    };
    samples.chunks_exact(4).flat_map(|pixel| [0, 1, 2].map(|band| divide(pixel[band], pixel[3]))).collect()
}

/// Converts a YCbCr pixel to RGB as Pillow's `ImagingConvertYCbCr2RGB`, which it uses where no
/// library converts: products of 6 fractional bits, each rounded by truncation of itself plus 0.5.
pub(super) fn raw_ycbcr_to_rgb(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    let product = |sample: u8, factor: f64| ((f64::from(sample) - 128.0) * factor * 64.0 + 0.5) as i32;
    let clamp = |difference: i32| (i32::from(luma) + (difference >> 6)).clamp(0, 255) as u8;
    [clamp(product(red, 1.402)), clamp(product(blue, -0.34414) + product(red, -0.71414)), clamp(product(blue, 1.772))]
}

/// Converts a YCbCr pixel to RGB (full-range BT.601; ITU-T T.871, section 7) as libjpeg does: the
/// factors 1.402, 0.34414, 0.71414 and 1.772 have 16 fractional bits, and green is rounded once.
#[inline(always)]
pub(super) fn ycbcr_to_rgb(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    let (luma, blue, red) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
    let clamp = |value: i32| value.clamp(0, 255) as u8;
    [
        clamp(luma + ((91_881 * red + 32_768) >> 16)),
        clamp(luma + ((-22_554 * blue - 46_802 * red + 32_768) >> 16)),
        clamp(luma + ((116_130 * blue + 32_768) >> 16)),
    ]
}

/// Converts grey integers of more than 8 bits to RGB. If all samples fit into 8 bits they are kept,
/// as in Pillow. Otherwise each is reduced to the high byte of the smallest width of 16, 32 or 64
/// bits that holds them all, where Pillow would saturate to white. Also tells whether they were
/// reduced.
pub(super) fn deep_grey_to_rgb(samples: impl ExactSizeIterator<Item = u64> + Clone) -> (Vec<u8>, bool) {
    let shift = match samples.clone().max().unwrap_or(0) {
        0..=0xff => 0,
        0x100..=0xffff => 8,
        0x1_0000..=0xffff_ffff => 24,
        _ => 56,
    };
    (grey_to_rgb(samples.map(move |sample| (sample >> shift) as u8)), shift > 0)
}

/// Converts float samples to bytes. Samples within 0 to 1 are multiplied by 255; if any sample is
/// above 1, all are taken as bytes, as in Pillow. Values are clamped and truncated, and NaN becomes
/// 0.
pub(super) fn float_to_bytes(samples: &[f32]) -> Vec<u8> {
    let are_bytes = samples.iter().any(|sample| *sample > 1.0);
    let scale = if are_bytes { 1.0 } else { 255.0 };
    // `as` saturates and maps NaN to 0.
    samples.iter().map(|sample| (sample * scale) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_grey_is_kept_if_it_fits_and_reduced_otherwise() {
        let kept = vec![0, 0, 0, 7, 7, 7, 255, 255, 255];
        assert_eq!(deep_grey_to_rgb([0u64, 7, 255].into_iter()), (kept, false));
        let reduced = vec![0, 0, 0, 0x12, 0x12, 0x12, 255, 255, 255];
        assert_eq!(deep_grey_to_rgb([0u64, 0x1234, 0xffff].into_iter()), (reduced, true));
    }

    #[test]
    fn floats_of_both_scales_become_bytes() {
        assert_eq!(float_to_bytes(&[-1.0, 0.0, 0.5, 1.0, f32::NAN]), [0, 0, 127, 255, 0]);
        assert_eq!(float_to_bytes(&[-1.0, 1.0, 100.9, 300.0]), [0, 1, 100, 255]);
    }

    #[test]
    fn no_ink_is_white_and_full_black_is_black() {
        assert_eq!(cmyk_to_rgb(&[0, 0, 0, 0, 9, 9, 9, 255, 255, 0, 128, 0], 4), [255, 255, 255, 0, 0, 0, 0, 255, 127]);
    }
}
