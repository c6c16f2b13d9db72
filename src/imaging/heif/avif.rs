//! AVIF: the crate `re_rav1d` decodes the pictures; colours are converted as in Pillow 13, which
//! reads them with libavif 1.4 and libyuv.
//!
//! | picture | conversion |
//! |---|---|
//! | grey, and green, blue and red | each sample scaled in `f32` |
//! | luma and chroma | reduced to 8 bits, chroma interpolated, then integers of 6 fractional bits |
//! | luma and chroma of 10 bits with alpha | chroma interpolated in 10 bits |
//! | 4:2:0 of 12 bits with alpha | chroma repeated |

use re_rav1d::dav1d::{Decoder, Error, PixelLayout, PlanarImageComponent, Settings, pixel};

use super::container::{ColorDescription, PrimaryItem, UNSPECIFIED, unsupported};
use super::picture::{Picture, decode_tiles};
use crate::imaging::error::ImageError;
use crate::imaging::format::Format;
use crate::imaging::rgb::RgbImage;

/// Decodes the pixels.
pub(super) fn decode_pixels(item: &PrimaryItem<'_>) -> Result<RgbImage, ImageError> {
    let picture = decode_tiles(item, |data, _| decode_tile(item, data))?;
    to_rgb(picture, item.has_alpha)
}

/// Decodes a tile.
fn decode_tile(item: &PrimaryItem<'_>, data: &[u8]) -> Result<Picture, ImageError> {
    if data.is_empty() {
        return Err(ImageError::corrupt("a picture without data"));
    }
    let mut settings = Settings::new();
    settings.set_n_threads(1);
    settings.set_all_layers(false);
    let pixels = u64::from(item.tile_width) * u64::from(item.tile_height);
    settings.set_frame_size_limit(u32::try_from(pixels).unwrap_or(u32::MAX));
    let mut decoder = Decoder::with_settings(&settings)?;
    let mut sent = decoder.send_data(data.to_vec(), None, None, None);
    let picture = loop {
        let is_pending = match sent {
            Ok(()) => false,
            Err(Error::Again) => true,
            Err(error) => return Err(error.into()),
        };
        match decoder.get_picture() {
            Ok(picture) => break picture,
            Err(Error::Again) if is_pending => sent = decoder.send_pending_data(),
            Err(Error::Again) => return Err(ImageError::Truncated("the pixel data is cut off".to_owned())),
            Err(error) => return Err(error.into()),
        }
    };
    let chroma = match picture.pixel_layout() {
        PixelLayout::I400 => None,
        PixelLayout::I420 => Some((1, 1)),
        PixelLayout::I422 => Some((1, 0)),
        PixelLayout::I444 => Some((0, 0)),
    };
    let color = item.color.unwrap_or_else(|| described_color(&picture));
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let mut decoded =
        Picture { width, height, depth: picture.bit_depth() as u32, chroma, planes: Default::default(), color };
    let components = [PlanarImageComponent::Y, PlanarImageComponent::U, PlanarImageComponent::V];
    for (plane, component) in components.into_iter().enumerate().take(if chroma.is_some() { 3 } else { 1 }) {
        let (columns, lines) = decoded.plane_size(plane);
        let mut samples = Vec::with_capacity(columns * lines);
        let stored = picture.plane(component);
        for row in stored.chunks_exact(picture.stride(component) as usize).take(lines) {
            if decoded.depth == 8 {
                samples.extend(row[..columns].iter().map(|sample| u16::from(*sample)));
            } else {
                samples.extend(
                    row[..2 * columns].chunks_exact(2).map(|sample| u16::from_ne_bytes([sample[0], sample[1]])),
                );
            }
        }
        decoded.planes[plane] = samples;
    }
    Ok(decoded)
}

/// Returns the colours as a picture describes them.
fn described_color(picture: &re_rav1d::dav1d::Picture) -> ColorDescription {
    let matrix = picture.matrix_coefficients();
    // `re_rav1d` panics on primaries that are not assigned, so they are read only if they matter.
    let needs_primaries = matrix == pixel::MatrixCoefficients::ChromaticityDerivedNonConstantLuminance;
    ColorDescription {
        primaries: if needs_primaries { picture.color_primaries() as u16 } else { UNSPECIFIED },
        matrix: matrix as u16,
        is_full_range: picture.color_range() == pixel::YUVRange::Full,
    }
}

/// Converts to RGB of 8 bits.
fn to_rgb(mut picture: Picture, has_alpha: bool) -> Result<RgbImage, ImageError> {
    let (depth, color) = (picture.depth, picture.color);
    let is_full_range = color.is_full_range;
    let weights = Weights::new(color, picture.chroma.is_none());
    let data = match (picture.chroma, weights) {
        (None, Some(weights)) if has_alpha => {
            reduce_to_bytes(&mut picture);
            convert_pixels(&picture, Chroma::None, |[luma, ..]| weights.convert([luma, 128, 128], 8))
        }
        (None, _) => {
            let range = Range::new(depth, is_full_range);
            convert_pixels(&picture, Chroma::None, |[luma, ..]| [range.to_byte(luma); 3])
        }
        (Some((0, 0)), _) if color.matrix == 0 => {
            let range = Range::new(depth, is_full_range);
            convert_pixels(&picture, Chroma::Repeated, |[green, blue, red]| {
                [red, green, blue].map(|v| range.to_byte(v))
            })
        }
        (Some(_), None) => return Err(unsupported(Format::Avif, "an unusual colour matrix")),
        (Some(subsampling), Some(weights)) => {
            let chroma = match (depth, has_alpha, subsampling) {
                (10, true, _) => Chroma::Interpolated,
                (12, true, (1, 1)) => Chroma::Repeated,
                _ => {
                    reduce_to_bytes(&mut picture);
                    Chroma::Interpolated
                }
            };
            let depth = picture.depth;
            convert_pixels(&picture, chroma, |pixel| weights.convert(pixel, depth))
        }
    };
    RgbImage::from_decoder(picture.width as u32, picture.height as u32, data)
}

/// Keeps the high 8 bits of each sample.
fn reduce_to_bytes(picture: &mut Picture) {
    let shift = picture.depth - 8;
    if shift > 0 {
        picture.planes.iter_mut().flatten().for_each(|sample| *sample = (*sample >> shift).min(255));
        picture.depth = 8;
    }
}

/// Source of the chroma of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chroma {
    /// None: luma takes its place.
    None,
    /// The nearest sample.
    Repeated,
    /// The nearest samples, weighted by distance.
    Interpolated,
}

/// Converts the pixels with `convert`, which gets the samples of the three planes.
fn convert_pixels(picture: &Picture, chroma: Chroma, convert: impl Fn([u16; 3]) -> [u8; 3]) -> Vec<u8> {
    let (width, height) = (picture.width, picture.height);
    let mut data = vec![0; width * height * 3];
    let mut chroma_rows = [vec![0; width], vec![0; width]];
    for (y, line) in data.chunks_exact_mut(width * 3).enumerate() {
        let luma = picture.row(0, y);
        for (row, plane) in chroma_rows.iter_mut().zip([1, 2]) {
            match chroma {
                Chroma::None => row.copy_from_slice(luma),
                Chroma::Repeated => repeat_chroma(picture, plane, y, row),
                Chroma::Interpolated => interpolate_chroma(picture, plane, y, row),
            }
        }
        let samples = luma.iter().zip(&chroma_rows[0]).zip(&chroma_rows[1]);
        for (pixel, ((luma, blue), red)) in line.chunks_exact_mut(3).zip(samples) {
            pixel.copy_from_slice(&convert([*luma, *blue, *red]));
        }
    }
    data
}

/// Fills in the chroma of a row of pixels with the nearest samples.
fn repeat_chroma(picture: &Picture, plane: usize, y: usize, row: &mut [u16]) {
    let (across, down) = picture.chroma.unwrap_or_default();
    let samples = picture.row(plane, y >> down);
    for (x, sample) in row.iter_mut().enumerate() {
        *sample = samples[x >> across];
    }
}

/// Fills in the chroma of a row of pixels as libyuv's bilinear filter: weights of 3/4 and 1/4 along
/// each halved side. The first and last columns and rows have one neighbour.
fn interpolate_chroma(picture: &Picture, plane: usize, y: usize, row: &mut [u16]) {
    let (across, down) = picture.chroma.unwrap_or_default();
    let near = picture.row(plane, y >> down);
    if across == 0 {
        row.copy_from_slice(near);
        return;
    }
    let other = neighbour(y, picture.height).filter(|_| down == 1);
    let far = other.map(|other| picture.row(plane, other));
    let last = row.len() - 1;
    for (x, sample) in row.iter_mut().enumerate() {
        // The last column has one neighbour even if there is another.
        let column = x >> 1;
        let side = neighbour(x, last + 1).filter(|_| x != last);
        let at = |samples: &[u16], column: usize| u32::from(samples[column]);
        let value = match (far, side) {
            (None, None) => at(near, column),
            (None, Some(side)) => (3 * at(near, column) + at(near, side) + 2) >> 2,
            (Some(far), None) => (3 * at(near, column) + at(far, column) + 2) >> 2,
            (Some(far), Some(side)) => {
                (9 * at(near, column) + 3 * at(near, side) + 3 * at(far, column) + at(far, side) + 8) >> 4
            }
        };
        *sample = value as u16;
    }
}

/// Returns the second nearest of the samples that are half as many as positions along a side.
fn neighbour(at: usize, length: usize) -> Option<usize> {
    let other = if at.is_multiple_of(2) { (at / 2).checked_sub(1)? } else { at / 2 + 1 };
    (other < length.div_ceil(2)).then_some(other)
}

/// Scale of samples in `f32`.
#[derive(Debug, Clone, Copy)]
struct Range {
    black: f32,
    /// Difference of white and black.
    span: f32,
}

impl Range {
    fn new(depth: u32, is_full: bool) -> Self {
        let shift = depth - 8;
        let (black, span) = if is_full { (0, (1 << depth) - 1) } else { (16 << shift, 219 << shift) };
        Self { black: black as f32, span: span as f32 }
    }

    fn to_byte(self, sample: u16) -> u8 {
        (0.5 + ((f32::from(sample) - self.black) / self.span).clamp(0.0, 1.0) * 255.0) as u8
    }
}

/// Weights of luma and of the differences of blue and red, with 6 fractional bits (libyuv,
/// `row_common.cc`).
#[derive(Debug, Clone, Copy)]
struct Weights {
    /// Factor of luma of 16 bits, with 22 fractional bits.
    luma: u32,
    /// Black, and the half that rounds.
    offset: i32,
    blue_of_blue: i32,
    green_of_blue: i32,
    green_of_red: i32,
    red_of_red: i32,
}

impl Weights {
    /// Returns the weights of a colour description; `None` for an unusual matrix. Grey may be
    /// declared as green, blue and red.
    fn new(color: ColorDescription, is_grey: bool) -> Option<Self> {
        // BT.601, BT.709 or BT.2020.
        let standard = match (color.matrix, color.primaries) {
            (0, _) if is_grey => 601,
            (2 | 5 | 6, _) | (12, 5 | 6) => 601,
            (1, _) | (12, 1 | 2) => 709,
            (9, _) | (12, 9) => 2020,
            _ => return None,
        };
        let (luma, offset, [blue_of_blue, green_of_blue, green_of_red, red_of_red]) =
            match (standard, color.is_full_range) {
                (601, false) => (18_997, -1160, [128, 25, 52, 102]),
                (709, false) => (18_997, -1160, [128, 14, 34, 115]),
                (_, false) => (19_003, -1160, [128, 12, 42, 107]),
                (601, true) => (16_320, 32, [113, 22, 46, 90]),
                (709, true) => (16_320, 32, [119, 12, 30, 101]),
                (_, true) => (16_320, 32, [120, 11, 37, 94]),
            };
        Some(Self { luma, offset, blue_of_blue, green_of_blue, green_of_red, red_of_red })
    }

    /// Converts a pixel of samples of `depth` bits, whose high bits are repeated in the low ones of
    /// 16.
    fn convert(self, [luma, blue, red]: [u16; 3], depth: u32) -> [u8; 3] {
        let wide = u32::from(luma) << (16 - depth) | u32::from(luma) >> (2 * depth - 16);
        let luma = ((wide * self.luma) >> 16) as i32 + self.offset;
        let [blue, red] = [blue, red].map(|sample| i32::from((sample >> (depth - 8)).min(255)) - 128);
        let clamp = |value: i32| (value >> 6).clamp(0, 255) as u8;
        [
            clamp(luma + red * self.red_of_red),
            clamp(luma - blue * self.green_of_blue - red * self.green_of_red),
            clamp(luma + blue * self.blue_of_blue),
        ]
    }
}

impl From<Error> for ImageError {
    fn from(error: Error) -> Self {
        Self::Corrupt(format!("AV1: {error}"))
    }
}
