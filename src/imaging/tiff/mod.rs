//! TIFF: the first page in Pillow's pixels.
//!
//! | file | subject |
//! |---|---|
//! | `directory.rs` | tags |
//! | `page.rs` | layout of strips or tiles and meaning of samples; rejects what Pillow rejects |
//! | `chunk.rs` | decompression of a strip or tile |
//! | `lab.rs` | conversion of CIE Lab |
//!
//! Differences from Pillow: JPEG of before TIFF 6, JPEG with alpha, chroma reduced to 4x4, and
//! compressions that only special devices write are rejected. So are planes of 16 bits without
//! compression, which Pillow reads as bytes. Big-endian BigTIFF, which Pillow rejects, is read, and
//! so are big-endian compressed grey of 32 bits or with a sign, whose bytes Pillow swaps, and
//! planes of CIE Lab, whose a and b Pillow takes as unsigned.

mod chunk;
mod directory;
mod lab;
mod page;

use super::error::ImageError;
use super::format::Format;
use super::header::Header;
use super::orientation::Orientation;
use super::rgb::{
    RgbImage, cmyk_to_rgb, deep_grey_to_rgb, divide_by_alpha, float_to_bytes, grey_to_rgb, raw_ycbcr_to_rgb,
    ycbcr_to_rgb,
};
use chunk::{JPEG, ordered_bytes, read_chunk};
use directory::Directory;
use page::{Meaning, Page};

const IMAGE_WIDTH: u64 = 256;
const IMAGE_LENGTH: u64 = 257;
const ORIENTATION: u64 = 274;
const COLOR_MAP: u64 = 320;
const XMP: u64 = 700;

/// Reads size and orientation.
pub(super) fn read_header(bytes: &[u8]) -> Result<Header, ImageError> {
    let directory = Directory::read(bytes);
    let directory =
        directory.ok_or_else(|| ImageError::Truncated("its directory is beyond the end of the file".to_owned()))?;
    let side = |tag, name: &str| {
        let value = directory.value(tag).ok_or_else(|| ImageError::Corrupt(format!("no {name}")))?;
        u32::try_from(value).map_err(|_| ImageError::Corrupt(format!("a {name} of {value}")))
    };
    let (width, height) = (side(IMAGE_WIDTH, "width")?, side(IMAGE_LENGTH, "height")?);
    let orientation = match directory.value(ORIENTATION) {
        Some(tag) => Orientation::from_tag(u32::try_from(tag).unwrap_or(0)),
        None => {
            let xmp = directory.find(XMP).and_then(|entry| directory.tiff.slice(entry.at, entry.width * entry.count));
            Orientation::find(None, xmp)
        }
    };
    Ok(Header { format: Format::Tiff, stored_width: width, stored_height: height, orientation })
}

/// Reads the palette: all reds, then all greens, then all blues, of 16 bits each.
fn read_palette(directory: &Directory<'_>) -> Result<Vec<[u8; 3]>, ImageError> {
    let entry = directory.find(COLOR_MAP).filter(|entry| entry.width == 2);
    let entry = entry.ok_or_else(|| ImageError::corrupt("a palette image without a palette"))?;
    let colors = entry.count / 3;
    let sample = |index| Some((directory.tiff.uint(entry.at.checked_add(index * 2)?, 2)? >> 8) as u8);
    let color = |index| Some([sample(index)?, sample(colors + index)?, sample(2 * colors + index)?]);
    let palette: Option<Vec<[u8; 3]>> = (0..colors.min(256)).map(color).collect();
    palette.ok_or_else(|| ImageError::Truncated("its palette is beyond the end of the file".to_owned()))
}

/// Decodes the first page, and tells whether samples above 255 were reduced to their high byte. A
/// strip or tile may need at most `budget` bytes of memory.
pub(super) fn decode_pixels(bytes: &[u8], header: &Header, budget: usize) -> Result<(RgbImage, bool), ImageError> {
    let directory = Directory::read(bytes).ok_or_else(|| ImageError::Truncated("no directory".to_owned()))?;
    let page = Page::read(&directory, header)?;
    let is_jpeg = page.compression == JPEG;
    // JPEGs of three or four samples are decoded to RGB.
    let decoded = if is_jpeg && page.chunk_samples > 1 { Meaning::Rgb } else { page.meaning };
    let bits = page.bits;
    let shift = bits.saturating_sub(8);
    let stored = if is_jpeg && page.chunk_samples > 1 { 3 } else { page.chunk_samples };
    let file = &ordered_bytes(&directory, &page);
    let used = decoded.used_samples();
    let reader = Reader { directory: &directory, page: &page, file, bits, stored, used, budget };
    let mut is_reduced = false;
    let data = match decoded {
        Meaning::Grey { is_inverted } => {
            let (flip, full) = (if is_inverted { 0xff } else { 0 }, (1 << bits) - 1);
            grey_to_rgb(reader.samples(|value| (value * (255 / full)) as u8 ^ flip)?.into_iter())
        }
        Meaning::Palette => {
            let palette = read_palette(&directory)?;
            let color = |index: u8| palette.get(usize::from(index)).copied().unwrap_or_default();
            reader.samples(|value| value as u8)?.into_iter().flat_map(color).collect()
        }
        Meaning::DeepGrey { is_signed } => {
            let positive = |value: u32| match (is_signed, bits) {
                (true, 16) => (value as i16).max(0) as u64,
                (true, _) => (value as i32).max(0) as u64,
                _ => u64::from(value),
            };
            let data;
            (data, is_reduced) = deep_grey_to_rgb(reader.samples(|value| value)?.into_iter().map(positive));
            data
        }
        Meaning::Float => grey_to_rgb(float_to_bytes(&reader.samples(f32::from_bits)?).into_iter()),
        Meaning::Rgb => reader.samples(|value| (value >> shift) as u8)?,
        Meaning::PremultipliedRgb => divide_by_alpha(&reader.samples(|value| (value >> shift) as u8)?),
        Meaning::Cmyk => cmyk_to_rgb(&reader.samples(|value| (value >> shift) as u8)?, 4),
        Meaning::YCbCr => {
            let convert = if page.is_uncompressed() { raw_ycbcr_to_rgb } else { ycbcr_to_rgb };
            let samples = reader.samples(|value| value as u8)?;
            samples.chunks_exact(3).flat_map(|pixel| convert(pixel[0], pixel[1], pixel[2])).collect()
        }
        Meaning::Lab => {
            let samples = reader.samples(|value| value as u8)?;
            samples.chunks_exact(3).flat_map(|pixel| lab::lab_to_rgb([pixel[0], pixel[1], pixel[2]])).collect()
        }
    };
    if shift > 0 && matches!(decoded, Meaning::Rgb | Meaning::PremultipliedRgb) {
        is_reduced = data.iter().any(|value| *value > 0);
    }
    Ok((RgbImage::from_decoder(header.stored_width, header.stored_height, data)?, is_reduced))
}

/// Assembles the strips or tiles of a page.
struct Reader<'a> {
    directory: &'a Directory<'a>,
    page: &'a Page,
    /// Bytes of the file, from [`ordered_bytes`].
    file: &'a [u8],
    /// Bits of a sample after decompression.
    bits: usize,
    /// Number of samples of a pixel after decompression.
    stored: usize,
    /// Number of samples of a pixel that are used.
    used: usize,
    budget: usize,
}

impl Reader<'_> {
    /// Returns the used samples, of shape `[height, width, used]`, each converted.
    fn samples<T: Clone + Default>(&self, convert: impl Fn(u32) -> T) -> Result<Vec<T>, ImageError> {
        let Self { page, used, stored, bits, .. } = *self;
        let is_big = self.directory.tiff.big_endian;
        let mut samples = vec![T::default(); page.width * page.height * used];
        let mut index = 0;
        for plane in 0..if page.is_planar { used } else { 1 } {
            for top in (0..page.height).step_by(page.down) {
                let rows = page.down.min(page.height - top);
                for left in (0..page.width).step_by(page.across) {
                    let chunk = read_chunk(self.directory, page, self.file, index, rows, self.budget)?;
                    index += 1;
                    let columns = page.across.min(page.width - left);
                    let row_bytes = (page.across * stored * bits).div_ceil(8);
                    for (y, row) in chunk.chunks_exact(row_bytes).take(rows).enumerate() {
                        let start = ((top + y) * page.width + left) * used;
                        let line = &mut samples[start..start + columns * used];
                        for (x, pixel) in line.chunks_exact_mut(used).enumerate() {
                            if page.is_planar {
                                pixel[plane] = convert(sample(row, x, bits, is_big));
                                continue;
                            }
                            for (band, value) in pixel.iter_mut().enumerate() {
                                *value = convert(sample(row, x * stored + band, bits, is_big));
                            }
                        }
                    }
                }
            }
        }
        Ok(samples)
    }
}

/// Returns sample `index` of a row of packed samples.
fn sample(row: &[u8], index: usize, bits: usize, is_big: bool) -> u32 {
    let at = index * bits / 8;
    match bits {
        8 => u32::from(row[at]),
        16 if is_big => u32::from(u16::from_be_bytes([row[at], row[at + 1]])),
        16 => u32::from(u16::from_le_bytes([row[at], row[at + 1]])),
        32 if is_big => u32::from_be_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]),
        32 => u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]),
        _ => {
            let pair = u32::from(row[at]) << 8 | u32::from(row.get(at + 1).copied().unwrap_or(0));
            pair >> (16 - bits - index * bits % 8) & ((1 << bits) - 1)
        }
    }
}
