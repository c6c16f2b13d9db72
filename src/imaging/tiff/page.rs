//! A page's layout and the meaning of its samples, read from its tags.
//!
//! The kinds of pages are those of Pillow's table `OPEN_INFO`; other kinds are rejected, as there.

use super::directory::Directory;
use crate::imaging::error::ImageError;
use crate::imaging::header::Header;

const BITS: u64 = 258;
const COMPRESSION: u64 = 259;
const PHOTOMETRIC: u64 = 262;
const FILL_ORDER: u64 = 266;
const STRIP_OFFSETS: u64 = 273;
const SAMPLES: u64 = 277;
const ROWS_PER_STRIP: u64 = 278;
const STRIP_BYTES: u64 = 279;
const PLANAR_CONFIGURATION: u64 = 284;
const PREDICTOR: u64 = 317;
const TILE_WIDTH: u64 = 322;
const TILE_LENGTH: u64 = 323;
const TILE_OFFSETS: u64 = 324;
const TILE_BYTES: u64 = 325;
const EXTRA_SAMPLES: u64 = 338;
const SAMPLE_FORMAT: u64 = 339;
const SUBSAMPLING: u64 = 530;

const UNCOMPRESSED: u64 = 1;

/// Meaning of a page's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Grey of at most 8 bits; white is 0 if inverted.
    Grey { is_inverted: bool },
    /// Grey integers of more than 8 bits.
    DeepGrey { is_signed: bool },
    /// Grey floats.
    Float,
    /// Indices of colours.
    Palette,
    /// Red, green and blue, and perhaps samples that are not used.
    Rgb,
    /// Red, green and blue, each multiplied by the alpha that follows.
    PremultipliedRgb,
    /// Four inks.
    Cmyk,
    /// Luma and chroma.
    YCbCr,
    /// CIE Lab; a and b are signed.
    Lab,
}

impl Meaning {
    /// Returns the number of samples of a pixel that are used.
    pub(super) fn used_samples(self) -> usize {
        match self {
            Self::Rgb | Self::YCbCr | Self::Lab => 3,
            Self::PremultipliedRgb | Self::Cmyk => 4,
            _ => 1,
        }
    }
}

/// Layout of a page.
pub(super) struct Page {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) compression: u64,
    pub(super) meaning: Meaning,
    /// Bits of a sample.
    pub(super) bits: usize,
    /// Number of samples of a pixel that are stored together.
    pub(super) chunk_samples: usize,
    /// Whether each sample has a plane of its own.
    pub(super) is_planar: bool,
    /// Whether the lowest bit of each byte is the first.
    pub(super) is_bit_reversed: bool,
    pub(super) predictor: u64,
    /// Pixels of a chroma sample, across and down.
    pub(super) subsampling: (usize, usize),
    /// Size of a strip or tile in pixels.
    pub(super) across: usize,
    pub(super) down: usize,
    pub(super) is_tiled: bool,
    pub(super) offsets: Vec<u64>,
    /// Sizes of the strips or tiles in bytes, if they are stored.
    pub(super) lengths: Option<Vec<u64>>,
}

impl Page {
    /// Reads the layout of a page.
    pub(super) fn read(directory: &Directory<'_>, header: &Header) -> Result<Self, ImageError> {
        let is_cut_off = |tag: &u64| directory.find(*tag).is_some() && directory.values(*tag).is_none();
        if [BITS, SAMPLE_FORMAT, EXTRA_SAMPLES, STRIP_OFFSETS, TILE_OFFSETS].iter().any(is_cut_off) {
            return Err(ImageError::Truncated("values of a tag are beyond the end of the file".to_owned()));
        }
        let number = |tag, otherwise| directory.value(tag).unwrap_or(otherwise);
        let compression = number(COMPRESSION, UNCOMPRESSED);
        let is_planar = number(PLANAR_CONFIGURATION, 1) == 2;
        let fill_order = number(FILL_ORDER, 1);
        let photometric = number(PHOTOMETRIC, 0);
        let mut samples = number(SAMPLES, 1);
        let mut extra = directory.values(EXTRA_SAMPLES).unwrap_or_default();
        let mut bits = directory.values(BITS).unwrap_or_else(|| vec![1]);
        let formats = directory.values(SAMPLE_FORMAT).unwrap_or_else(|| vec![1]);
        // Planes of unspecified samples at the end are not read.
        let has_unused_planes = is_planar && !extra.is_empty() && extra.iter().all(|kind| *kind == 0);
        if has_unused_planes {
            bits.truncate(bits.len().saturating_sub(extra.len()));
            samples = samples.saturating_sub(extra.len() as u64);
            extra.clear();
        }
        if samples <= 6 && bits.len() == 1 {
            bits = vec![bits[0]; samples as usize];
        }
        bits.truncate(samples.min(7) as usize);
        let description = format!("{samples} samples of {bits:?} bits, kind {photometric}");
        let unsupported = |problem: &str| ImageError::unsupported(&format!("TIFF with {problem}"), "'FILE.tif[0]'");
        let same = |values: &[u64]| values.iter().all(|value| *value == values[0]);
        if bits.is_empty() || bits.len() as u64 != samples || !same(&bits) || formats.is_empty() || !same(&formats) {
            return Err(unsupported(&description));
        }
        let key = (photometric, formats[0], bits[0], samples, extra.as_slice());
        let is_big = directory.tiff.big_endian;
        let mut meaning = match key {
            (1, 1, 8, 2, [1]) => return Err(unsupported("grey multiplied by its alpha")),
            _ => meaning(key, fill_order, is_big).ok_or_else(|| unsupported(&description))?,
        };
        if is_planar && (samples > 1 || has_unused_planes) {
            let has_alpha = samples == 4 && photometric == 2;
            let is_read = match (compression, meaning) {
                (UNCOMPRESSED, Meaning::Rgb | Meaning::Cmyk | Meaning::Lab) => {
                    bits[0] == 8 && samples <= 4 && !has_unused_planes
                }
                (UNCOMPRESSED, _) => false,
                _ => (bits[0] == 8 || bits[0] == 16) && samples <= 4,
            };
            if !is_read {
                return Err(unsupported(&format!("separate planes: {description}")));
            }
            if compression != UNCOMPRESSED && has_alpha && extra.is_empty() {
                meaning = Meaning::PremultipliedRgb;
            }
        }
        let subsampling = match (meaning, directory.values(SUBSAMPLING).as_deref()) {
            (Meaning::YCbCr, Some([1, 1])) => (1, 1),
            (Meaning::YCbCr, None) if compression == UNCOMPRESSED => (1, 1),
            (Meaning::YCbCr, _) if compression == UNCOMPRESSED || is_planar => {
                return Err(unsupported("reduced chroma that is not compressed or has planes of its own"));
            }
            (Meaning::YCbCr, Some([h @ (1 | 2 | 4), v @ (1 | 2)])) => (*h as usize, *v as usize),
            (Meaning::YCbCr, None) => (2, 2),
            (Meaning::YCbCr, _) => return Err(unsupported("an unknown reduction of chroma")),
            _ => (1, 1),
        };
        let (width, height) = (header.stored_width as usize, header.stored_height as usize);
        let missing = || ImageError::corrupt("no strips or tiles");
        let tile_width = directory.value(TILE_WIDTH);
        let (across, down) = match tile_width {
            Some(across) => (across, directory.value(TILE_LENGTH).ok_or_else(missing)?),
            None => (width as u64, number(ROWS_PER_STRIP, height as u64).min(height as u64)),
        };
        if across == 0 || down == 0 {
            return Err(missing());
        }
        let (tile_offsets, tile_bytes) = (directory.values(TILE_OFFSETS), directory.values(TILE_BYTES));
        Ok(Self {
            width,
            height,
            compression,
            meaning,
            bits: bits[0] as usize,
            chunk_samples: if is_planar { 1 } else { samples as usize },
            is_planar: is_planar && samples > 1,
            is_bit_reversed: fill_order == 2,
            predictor: number(PREDICTOR, 1),
            subsampling,
            across: usize::try_from(across).unwrap_or(usize::MAX),
            down: usize::try_from(down).unwrap_or(usize::MAX),
            is_tiled: tile_width.is_some(),
            offsets: tile_offsets.or_else(|| directory.values(STRIP_OFFSETS)).ok_or_else(missing)?,
            lengths: tile_bytes.or_else(|| directory.values(STRIP_BYTES)),
        })
    }

    /// Whether the samples are stored without compression.
    pub(super) fn is_uncompressed(&self) -> bool {
        self.compression == UNCOMPRESSED
    }
}

/// Returns the meaning of samples by photometric interpretation, format, bits, number of samples
/// and kinds of extra samples; `None` for what Pillow rejects.
fn meaning(
    (photometric, format, bits, samples, extra): (u64, u64, u64, u64, &[u64]),
    fill_order: u64,
    is_big: bool,
) -> Option<Meaning> {
    let is_usual = fill_order == 1;
    if !is_usual && fill_order != 2 {
        return None;
    }
    Some(match (photometric, format, bits, samples, extra) {
        (0 | 1, 1, 1 | 2 | 4 | 8, 1, []) => Meaning::Grey { is_inverted: photometric == 0 },
        (3, 1, 1 | 2 | 4 | 8, 1, []) => Meaning::Palette,
        (2, 1, 8, 3, []) => Meaning::Rgb,
        (1, 1, 16, 1, []) if is_usual || !is_big => Meaning::DeepGrey { is_signed: false },
        _ if !is_usual => return None,
        (1, 2, 8, 1, []) | (6, 1, 8, 1, []) | (1, 1, 8, 2, [0 | 2]) => Meaning::Grey { is_inverted: false },
        (1, 1, 12 | 32, 1, []) | (0, 1, 16, 1, []) if !is_big => Meaning::DeepGrey { is_signed: false },
        (1, 2, 16 | 32, 1, []) => Meaning::DeepGrey { is_signed: true },
        (0 | 1, 3, 32, 1, []) => Meaning::Float,
        (3, 1, 8, 2, [0 | 2]) => Meaning::Palette,
        (2, 1, 16, 3, []) | (2, 1, 8 | 16, 4, [] | [0 | 2]) | (2, 1, 8, 4, [999]) => Meaning::Rgb,
        (2, 1, 8, 5, [0 | 2, 0]) | (2, 1, 8, 6, [0 | 2, 0, 0]) => Meaning::Rgb,
        (2, 1, 8 | 16, 4, [1]) | (2, 1, 8, 5, [1, 0]) | (2, 1, 8, 6, [1, 0, 0]) => Meaning::PremultipliedRgb,
        (5, 1, 8 | 16, 4, []) | (5, 1, 8, 5, [0]) | (5, 1, 8, 6, [0, 0]) => Meaning::Cmyk,
        (6, 1, 8, 3, []) => Meaning::YCbCr,
        (8, 1, 8, 3, []) => Meaning::Lab,
        _ => return None,
    })
}
