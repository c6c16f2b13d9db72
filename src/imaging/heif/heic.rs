//! HEIC: the crate `heifer-hevc-dec` decodes the pictures; colours are converted as in pillow-heif
//! 1.8, which reads them with libheif 1.23. Chroma samples are repeated, and alpha is dropped.
//!
//! Difference: libheif interpolates chroma in a few rare cases, with errors at the borders: if an
//! odd size or 4:2:2 is rotated or mirrored, or if a crop begins within a chroma sample. Grey of
//! more than 8 bits is reduced to its high bits, which Pillow saturates.

use heifer_hevc_dec::decoder::{DecodeOptions, decode_picture};

use super::container::{ColorDescription, Crop, PrimaryItem, UNSPECIFIED, unsupported};
use super::picture::{Picture, decode_tiles};
use crate::imaging::error::ImageError;
use crate::imaging::format::Format;
use crate::imaging::rgb::RgbImage;

/// Samples by which a coded picture may exceed the size of its tile, across and down: a whole
/// coding tree block.
const PADDING: u64 = 64;

/// Decodes the pixels.
pub(super) fn decode_pixels(item: &PrimaryItem<'_>) -> Result<RgbImage, ImageError> {
    let picture = decode_tiles(item, |_, index| decode_tile(item, index))?;
    let declared = item.color.map_or_else(|| item.tile_color(), |color| Ok(Some(color)))?;
    // Some cameras declare a limited range by mistake; libheif then believes the picture.
    let color = declared.map_or(picture.color, |color| ColorDescription {
        is_full_range: color.is_full_range || picture.color.is_full_range,
        ..color
    });
    to_rgb(&picture, item.crop, color)
}

/// Decodes a tile.
fn decode_tile(item: &PrimaryItem<'_>, index: usize) -> Result<Picture, ImageError> {
    let stream = item.tile_stream(index)?;
    let max_pixels = (u64::from(item.tile_width) + PADDING) * (u64::from(item.tile_height) + PADDING);
    let frame = decode_picture(&stream, DecodeOptions { max_pixels, ..DecodeOptions::default() })?;
    let [depth, chroma_depth] = frame.bit_depth.map(u32::from);
    let chroma = match frame.chroma_format {
        0 => None,
        1 => Some((1, 1)),
        2 => Some((1, 0)),
        _ => Some((0, 0)),
    };
    if chroma.is_some() && chroma_depth != depth {
        return Err(unsupported(Format::Heic, "luma and chroma of different depths"));
    }
    let color = ColorDescription {
        primaries: UNSPECIFIED,
        matrix: u16::from(frame.matrix_coeffs),
        is_full_range: frame.full_range,
    };
    let [width, height] = [frame.widths[0] as usize, frame.heights[0] as usize];
    Ok(Picture { width, height, depth, chroma, planes: frame.planes, color })
}

/// Converts the cropped pixels to RGB of 8 bits.
fn to_rgb(picture: &Picture, crop: Crop, color: ColorDescription) -> Result<RgbImage, ImageError> {
    let shift = picture.depth - 8;
    let high_bits = move |value: u16| (value >> shift) as u8;
    let is_full_range = color.is_full_range;
    let data = match (picture.chroma, Matrix::new(color)?) {
        // The range of grey is not expanded.
        (None, _) => convert_pixels(picture, crop, |[luma, ..]| [high_bits(luma); 3]),
        (Some((1, 1)), Matrix::Weights(weights)) if is_full_range => {
            let weights = weights.rounded();
            convert_pixels(picture, crop, |pixel| weights.convert(pixel.map(high_bits)))
        }
        (_, matrix) => {
            let range = Range::new(picture.depth, is_full_range);
            convert_pixels(picture, crop, |pixel| matrix.convert(pixel, range).map(high_bits))
        }
    };
    RgbImage::from_decoder(crop.width, crop.height, data)
}

/// Converts the cropped pixels with `convert`, which gets the samples of the three planes.
fn convert_pixels(picture: &Picture, crop: Crop, convert: impl Fn([u16; 3]) -> [u8; 3]) -> Vec<u8> {
    let (left, top) = (crop.left as usize, crop.top as usize);
    let (width, height) = (crop.width as usize, crop.height as usize);
    let (across, down) = picture.chroma.unwrap_or_default();
    // Grey has luma in the place of chroma.
    let chroma_planes = if picture.chroma.is_some() { [1, 2] } else { [0, 0] };
    let mut data = vec![0; width * height * 3];
    for (y, line) in data.chunks_exact_mut(width * 3).enumerate() {
        let luma = &picture.row(0, top + y)[left..left + width];
        let [blue, red] = chroma_planes.map(|plane| picture.row(plane, (top + y) >> down));
        for (x, (pixel, luma)) in line.chunks_exact_mut(3).zip(luma).enumerate() {
            let at = (left + x) >> across;
            pixel.copy_from_slice(&convert([*luma, blue[at], red[at]]));
        }
    }
    data
}

/// Factors of a limited range, as libheif rounds them.
const LUMA_SCALE: f32 = 1.1689;
const CHROMA_SCALE: f32 = 1.1429;

/// Range of samples.
#[derive(Debug, Clone, Copy)]
struct Range {
    is_full: bool,
    /// Black of a limited range.
    black: f32,
    /// Value of no colour difference.
    middle: f32,
    /// Largest value.
    max: u16,
}

impl Range {
    fn new(depth: u32, is_full: bool) -> Self {
        let (black, middle) = (16 << (depth - 8), 1 << (depth - 1));
        Self { is_full, black: black as f32, middle: middle as f32, max: ((1_u32 << depth) - 1) as u16 }
    }

    /// Rounds halves up, and clamps to the range of samples.
    fn round(self, value: f32) -> u16 {
        ((value + 0.5) as u16).min(self.max)
    }
}

/// Meaning of the three planes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Matrix {
    /// Green, blue and red.
    Identity,
    /// Luma and differences of blue and red.
    Weights(Weights),
}

/// Weights of the differences in red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Weights {
    red_of_red: f32,
    green_of_blue: f32,
    green_of_red: f32,
    blue_of_blue: f32,
}

/// [`Weights`] of 8 fractional bits.
#[derive(Debug, Clone, Copy, PartialEq)]
struct RoundedWeights {
    red_of_red: i32,
    green_of_blue: i32,
    green_of_red: i32,
    blue_of_blue: i32,
}

impl Matrix {
    /// Returns the matrix of a colour description.
    fn new(color: ColorDescription) -> Result<Self, ImageError> {
        // Weights of red and blue in luma (ITU-T H.273, table 4).
        let (red, blue) = match (color.matrix, color.primaries) {
            (0, _) => return Ok(Self::Identity),
            (1, _) => (0.2126, 0.0722),
            (4, _) => (0.30, 0.11),
            (5 | 6, _) => (0.299, 0.114),
            (7, _) => (0.212, 0.087),
            (9, _) => (0.2627, 0.0593),
            (8 | 10..=255, _) => return Err(unsupported(Format::Heic, "an unusual colour matrix")),
            // Unspecified: BT.601 with rounded weights.
            _ => {
                return Ok(Self::Weights(Weights {
                    red_of_red: 1.402,
                    green_of_blue: -0.344_136,
                    green_of_red: -0.714_136,
                    blue_of_blue: 1.772,
                }));
            }
        };
        Ok(Self::Weights(Weights::new(red, blue)))
    }

    /// Converts a pixel in `f32`.
    fn convert(self, [first, second, third]: [u16; 3], range: Range) -> [u16; 3] {
        let Self::Weights(weights) = self else {
            if range.is_full {
                return [third, first, second];
            }
            let expand = |value: u16, scale: f32| range.round((f32::from(value) - range.black) * scale);
            return [expand(third, CHROMA_SCALE), expand(first, LUMA_SCALE), expand(second, CHROMA_SCALE)];
        };
        let mut luma = f32::from(first);
        let [mut blue, mut red] = [second, third].map(|value| f32::from(value) - range.middle);
        if !range.is_full {
            luma = (luma - range.black) * LUMA_SCALE;
            blue *= CHROMA_SCALE;
            red *= CHROMA_SCALE;
        }
        [
            range.round(luma + weights.red_of_red * red),
            range.round(luma + weights.green_of_blue * blue + weights.green_of_red * red),
            range.round(luma + weights.blue_of_blue * blue),
        ]
    }
}

impl Weights {
    fn new(red: f32, blue: f32) -> Self {
        Self {
            red_of_red: 2.0 * (-red + 1.0),
            green_of_blue: 2.0 * blue * (-blue + 1.0) / (blue + red - 1.0),
            green_of_red: 2.0 * red * (-red + 1.0) / (blue + red - 1.0),
            blue_of_blue: 2.0 * (-blue + 1.0),
        }
    }

    fn rounded(self) -> RoundedWeights {
        let round = |weight: f32| (weight * 256.0).round() as i32;
        RoundedWeights {
            red_of_red: round(self.red_of_red),
            green_of_blue: round(self.green_of_blue),
            green_of_red: round(self.green_of_red),
            blue_of_blue: round(self.blue_of_blue),
        }
    }
}

impl RoundedWeights {
    /// Converts a pixel in integers.
    fn convert(self, [luma, blue, red]: [u8; 3]) -> [u8; 3] {
        let (luma, blue, red) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
        let clamp = |difference: i32| (luma + ((difference + 128) >> 8)).clamp(0, 255) as u8;
        [
            clamp(self.red_of_red * red),
            clamp(self.green_of_blue * blue + self.green_of_red * red),
            clamp(self.blue_of_blue * blue),
        ]
    }
}

impl From<heifer_hevc_dec::Error> for ImageError {
    fn from(error: heifer_hevc_dec::Error) -> Self {
        match error {
            heifer_hevc_dec::Error::UnexpectedEof => Self::Truncated("the pixel data is cut off".to_owned()),
            heifer_hevc_dec::Error::Unimplemented(what) => unsupported(Format::Heic, what),
            other => Self::Corrupt(other.to_string()),
        }
    }
}
