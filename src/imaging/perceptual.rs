//! The perceptual difference hash, equal to `imagehash.dhash` of Python.

use std::fmt;
use std::str::FromStr;

use super::filter::Filter;
use super::resize::{PixelSource, resample};
use super::rgb::RgbImage;

const SIDE: usize = 8;

/// A 64-bit difference hash. Each bit says whether a grey pixel is brighter than its left
/// neighbour, row by row from the highest bit. It is displayed as 16 hexadecimal digits, as
/// `str(imagehash.dhash(image))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DHash(u64);

impl DHash {
    /// Wraps 64 bits.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the 64 bits.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for DHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

impl FromStr for DHash {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// Converts a pixel to grey as Pillow's `convert("L")`: ITU-R 601-2 luma in 16-bit fixed point.
#[inline(always)]
fn luma(pixel: &[u8]) -> i32 {
    let sum = u32::from(pixel[0]) * 19_595 + u32::from(pixel[1]) * 38_470 + u32::from(pixel[2]) * 7_471;
    ((sum + 0x8000) >> 16) as i32
}

/// Computes the difference hash of an upright image: it is converted to grey, resized to 9x8 by
/// Lanczos, and each pixel is compared with its left neighbour.
///
/// The hash equals `imagehash.dhash` if the pixels equal Pillow's, as those of
/// [`decode`](super::decode()) do except for some TIFFs in YCbCr. The hash of an image without
/// pixels is 0.
pub fn dhash(image: &RgbImage) -> DHash {
    if image.data().is_empty() {
        return DHash(0);
    }
    let line = image.width() as usize * 3;
    let load_row = |y: usize, [plane]: [&mut [i32]; 1]| {
        for (pixel, value) in image.data()[y * line..(y + 1) * line].chunks_exact(3).zip(plane) {
            *value = luma(pixel);
        }
    };
    let source = PixelSource { width: image.width() as usize, height: image.height() as usize, load_row };
    let grey = resample(&source, SIDE + 1, SIDE, Filter::Lanczos3);
    let rows = grey.chunks_exact(SIDE + 1).flat_map(|row| row.windows(2));
    DHash(rows.fold(0, |bits, pair| bits << 1 | u64::from(pair[1] > pair[0])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_to_the_right_is_all_ones() {
        let row: Vec<u8> = (0..90u8).flat_map(|x| [x * 2; 3]).collect();
        let image = RgbImage::new(90, 80, row.repeat(80)).unwrap();
        assert_eq!(dhash(&image).to_string(), "ffffffffffffffff");
        let flat = RgbImage::new(90, 80, vec![9; 90 * 80 * 3]).unwrap();
        assert_eq!(dhash(&flat).to_string(), "0000000000000000");
        assert_eq!("00ff00ff00ff00ff".parse::<DHash>().unwrap().bits().count_ones(), 32);
    }
}
