//! Image resizing that equals Pillow's bit for bit.
//!
//! Source: `Resample.c` of Pillow 13. A separable filter runs in two passes, each rounding to 8
//! bits: sums of 32-bit integers over the fixed-point [`FilterWeights`]. The loops are written so
//! that the compiler vectorises them, and `pulp` selects the widest instructions of the CPU at run
//! time. Integer arithmetic makes the result the same on all of them.

use pulp::{Arch, Simd, WithSimd};

use super::filter::{Filter, FilterWeights, PRECISION_BITS};
use super::rgb::RgbImage;

const ROUNDING: i32 = 1 << (PRECISION_BITS - 1);
/// Number of columns that the vertical pass sums at a time.
const BLOCK: usize = 64;

/// The image to resize, loaded row by row, so that a conversion needs no intermediate image.
pub(super) struct PixelSource<F> {
    /// Width in pixels.
    pub(super) width: usize,
    /// Height in pixels.
    pub(super) height: usize,
    /// Writes a row into one plane per channel.
    pub(super) load_row: F,
}

/// Rounds a fixed-point sum to a pixel.
#[inline(always)]
fn to_pixel(sum: i32) -> u8 {
    (sum.wrapping_add(ROUNDING) >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Resizes to pixels of shape `[height, width, CHANNELS]`.
pub(super) fn resample<const CHANNELS: usize, F>(
    source: &PixelSource<F>,
    width: usize,
    height: usize,
    filter: Filter,
) -> Vec<u8>
where
    F: Fn(usize, [&mut [i32]; CHANNELS]),
{
    let columns = FilterWeights::cached(source.width, width, filter);
    let rows = FilterWeights::cached(source.height, height, filter);
    Arch::new().dispatch(ResampleTask { source, columns: &columns, rows: &rows })
}

/// The two passes as a task that `pulp` compiles once per instruction set.
struct ResampleTask<'a, F, const CHANNELS: usize> {
    source: &'a PixelSource<F>,
    columns: &'a FilterWeights,
    rows: &'a FilterWeights,
}

impl<F, const CHANNELS: usize> WithSimd for ResampleTask<'_, F, CHANNELS>
where
    F: Fn(usize, [&mut [i32]; CHANNELS]),
{
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<u8> {
        let Self { source, columns, rows } = self;
        let (width, height) = (columns.len(), rows.len());
        if height == source.height {
            return pass_columns(source, 0..height, columns);
        }
        if runs_rows_first(source, width, height) {
            let loaded = load_rows(source, rows.used());
            let shortened = pass_rows(&loaded, source.width * CHANNELS, rows);
            let load_row = |y: usize, planes: [&mut [i32]; CHANNELS]| split_row(&shortened, source.width, y, planes);
            return pass_columns(&PixelSource { width: source.width, height, load_row }, 0..height, columns);
        }
        let narrowed = pass_columns(source, rows.used(), columns);
        pass_rows(&narrowed, width * CHANNELS, rows)
    }
}

/// Whether the vertical pass runs first. Since version 13 Pillow does so if it removes more than
/// twice as many rows as the horizontal pass removes columns. The order affects the last bit, since
/// each pass rounds.
fn runs_rows_first<F>(source: &PixelSource<F>, width: usize, height: usize) -> bool {
    let fewer_rows = source.height as i64 - height as i64;
    let fewer_columns = source.width as i64 - width as i64;
    fewer_rows > 0 && fewer_rows > fewer_columns * 2
}

/// Runs the horizontal pass; returns `[used rows, width, CHANNELS]`.
#[inline(always)]
fn pass_columns<const CHANNELS: usize, F>(
    source: &PixelSource<F>,
    used: std::ops::Range<usize>,
    columns: &FilterWeights,
) -> Vec<u8>
where
    F: Fn(usize, [&mut [i32]; CHANNELS]),
{
    let width = columns.len();
    // Zeros after each plane meet the zeros that pad the weights.
    let plane = source.width + columns.padding();
    let mut planes = vec![0i32; plane * CHANNELS];
    let mut output = vec![0; width * CHANNELS * used.len()];
    for (y, output) in used.zip(output.chunks_exact_mut(width * CHANNELS)) {
        (source.load_row)(y, split_planes(&mut planes, plane).map(|row| &mut row[..source.width]));
        if width == source.width {
            join_planes(&planes, plane, output, CHANNELS);
            continue;
        }
        for (x, pixel) in output.chunks_exact_mut(CHANNELS).enumerate() {
            let (inputs, weights) = columns.padded_at(x);
            for (value, row) in pixel.iter_mut().zip(planes.chunks_exact(plane)) {
                *value = weighted_sum(&row[inputs.clone()], weights);
            }
        }
    }
    output
}

/// Returns the weighted sum of pixels, rounded to a pixel.
#[inline(always)]
fn weighted_sum(pixels: &[i32], weights: &[i32]) -> u8 {
    let products = pixels.iter().zip(weights).map(|(pixel, weight)| pixel.wrapping_mul(*weight));
    to_pixel(products.fold(0, i32::wrapping_add))
}

/// Runs the vertical pass over lines that begin with the first one used.
#[inline(always)]
fn pass_rows(lines: &[u8], line: usize, rows: &FilterWeights) -> Vec<u8> {
    let first = rows.used().start;
    let mut output = vec![0; line * rows.len()];
    for (y, output) in output.chunks_exact_mut(line).enumerate() {
        let (inputs, weights) = rows.at(y);
        let lines = &lines[(inputs.start - first) * line..(inputs.end - first) * line];
        for (block, output) in output.chunks_mut(BLOCK).enumerate() {
            let mut sums = [0i32; BLOCK];
            for (pixels, weight) in lines.chunks_exact(line).zip(weights) {
                let pixels = &pixels[block * BLOCK..][..output.len()];
                for (sum, pixel) in sums.iter_mut().zip(pixels) {
                    *sum = sum.wrapping_add(i32::from(*pixel).wrapping_mul(*weight));
                }
            }
            for (pixel, sum) in output.iter_mut().zip(sums) {
                *pixel = to_pixel(sum);
            }
        }
    }
    output
}

/// Returns the used rows as bytes, `[rows, width, CHANNELS]`.
#[inline(always)]
fn load_rows<const CHANNELS: usize, F>(source: &PixelSource<F>, used: std::ops::Range<usize>) -> Vec<u8>
where
    F: Fn(usize, [&mut [i32]; CHANNELS]),
{
    let mut planes = vec![0i32; source.width * CHANNELS];
    let mut loaded = vec![0; used.len() * source.width * CHANNELS];
    for (y, line) in used.zip(loaded.chunks_exact_mut(source.width * CHANNELS)) {
        (source.load_row)(y, split_planes(&mut planes, source.width));
        join_planes(&planes, source.width, line, CHANNELS);
    }
    loaded
}

/// Cuts a buffer into one plane per channel.
fn split_planes<const CHANNELS: usize>(planes: &mut [i32], plane: usize) -> [&mut [i32]; CHANNELS] {
    let mut chunks = planes.chunks_exact_mut(plane);
    std::array::from_fn(|_| chunks.next().unwrap_or_default())
}

/// Interleaves planes of `plane` values each into a line of pixels.
#[inline(always)]
fn join_planes(planes: &[i32], plane: usize, line: &mut [u8], channels: usize) {
    for (channel, row) in planes.chunks_exact(plane).enumerate() {
        for (pixel, value) in line.chunks_exact_mut(channels).zip(row) {
            pixel[channel] = *value as u8;
        }
    }
}

/// Splits a row of interleaved pixels into planes.
#[inline(always)]
fn split_row<const CHANNELS: usize>(pixels: &[u8], width: usize, y: usize, mut planes: [&mut [i32]; CHANNELS]) {
    let row = &pixels[y * width * CHANNELS..(y + 1) * width * CHANNELS];
    for (channel, plane) in planes.iter_mut().enumerate() {
        for (value, pixel) in plane.iter_mut().zip(row.chunks_exact(CHANNELS)) {
            *value = i32::from(pixel[channel]);
        }
    }
}

/// Resizes an RGB image as Pillow's `Image.resize` in mode RGB. A zero side gives an empty image.
pub fn resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    let empty = image.data().is_empty() || width == 0 || height == 0;
    let data = if empty {
        Vec::new()
    } else if (width, height) == (image.width(), image.height()) {
        image.data().to_vec()
    } else {
        let (from_width, from_height) = (image.width() as usize, image.height() as usize);
        let load_row = |y: usize, planes: [&mut [i32]; 3]| split_row(image.data(), from_width, y, planes);
        let source = PixelSource { width: from_width, height: from_height, load_row };
        resample(&source, width as usize, height as usize, filter)
    };
    let (width, height) = if empty { (0, 0) } else { (width, height) };
    RgbImage::new(width, height, data).expect("the resampler fills [height, width, 3]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_image_stays_flat() {
        for filter in [Filter::Bicubic, Filter::Lanczos3] {
            for (width, height) in [(1, 1), (3, 40), (200, 2)] {
                let image = RgbImage::new(7, 5, [10, 200, 255].repeat(35)).unwrap();
                let resized = resize(&image, width, height, filter);
                assert!(resized.data().chunks(3).all(|pixel| pixel == [10, 200, 255]), "{filter:?} {width}x{height}");
            }
        }
    }

    #[test]
    fn an_empty_image_or_target_gives_no_pixels() {
        let image = RgbImage::new(2, 2, vec![1; 12]).unwrap();
        assert!(resize(&image, 0, 5, Filter::Bicubic).data().is_empty());
    }

    #[test]
    fn channels_do_not_mix() {
        let plane = |channel: u8| -> Vec<u8> { (0..35).map(|index| index * 7 + channel).collect() };
        let data = (0..35).flat_map(|index| [0, 1, 2].map(|channel| plane(channel)[index])).collect();
        let image = RgbImage::new(7, 5, data).unwrap();
        for (width, height) in [(3, 2), (20, 3), (6, 1), (7, 9)] {
            let resized = resize(&image, width, height, Filter::Bicubic);
            for channel in 0..3 {
                let grey = plane(channel).into_iter().flat_map(|value| [value; 3]).collect();
                let alone = resize(&RgbImage::new(7, 5, grey).unwrap(), width, height, Filter::Bicubic);
                let band = |image: &RgbImage| -> Vec<u8> {
                    image.data().iter().skip(channel.into()).step_by(3).copied().collect()
                };
                assert_eq!(band(&resized), band(&alone));
            }
        }
    }
}
