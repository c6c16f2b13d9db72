//! Pillow's resampling of 8-bit images, bit for bit.
//!
//! Source: `Resample.c` of Pillow 13. A separable filter in two passes, each rounding to 8 bits. Weights are computed in f64, normalised, and rounded to integers of 22 fractional bits; sums are 32-bit integers.
//!
//! For speed each weight is held as two 16-bit halves, `weight = high * 2^12 + low`, so that the inner loops are sums of
//! 16-bit products, which every x86-64 and ARM can do many at a time. Sums wrap: `high` and `low` parts may overflow apart,
//! while their combination, computed modulo 2^32, is exact.

use super::rgb::RgbImage;

/// `32 - 8 - 2`: 8 bits are the pixel, 2 are room for the negative lobes.
const PRECISION_BITS: u32 = 32 - 8 - 2;
const ROUNDING: i32 = 1 << (PRECISION_BITS - 1);
/// Bits of a weight's low half.
const LOW_BITS: u32 = 12;
/// Weights of an output are padded with zeros to a multiple of this.
const LANES: usize = 8;
/// Columns of the vertical pass summed at a time.
const BLOCK: usize = 64;

/// A resampling filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Cubic convolution with a = -0.5, radius 2.
    Bicubic,
    /// Sinc windowed by a wider sinc, radius 3.
    Lanczos3,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Lanczos3 => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Bicubic => bicubic(x.abs()),
            Self::Lanczos3 if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos3 => 0.0,
        }
    }
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// The weights of every output position of one pass.
struct Weights {
    /// First input position of each output.
    starts: Vec<usize>,
    /// Number of inputs of each output.
    counts: Vec<usize>,
    /// Room of one output in `high` and `low`.
    stride: usize,
    high: Vec<i16>,
    low: Vec<i16>,
}

impl Weights {
    /// `precompute_coeffs` and `normalize_coeffs_8bpc`.
    fn new(input: usize, output: usize, filter: Filter) -> Self {
        let scale = input as f64 / output as f64;
        // antialiasing: shrinking widens the filter
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let widest = (support.ceil() as usize * 2 + 1).min(input);
        let stride = widest.next_multiple_of(LANES);
        let inverse = 1.0 / filter_scale;
        let mut weights = Self {
            starts: Vec::with_capacity(output),
            counts: Vec::with_capacity(output),
            stride,
            high: vec![0; output * stride],
            low: vec![0; output * stride],
        };
        let mut row = Vec::with_capacity(widest);
        for position in 0..output {
            let center = (position as f64 + 0.5) * scale;
            // truncation, as a cast in C: a negative start becomes 0
            let start = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            row.clear();
            row.extend((start..end).map(|x| filter.weight((x as f64 - center + 0.5) * inverse)));
            let sum: f64 = row.iter().sum();
            for (index, weight) in row.iter().enumerate() {
                let weight = if sum == 0.0 { *weight } else { *weight / sum };
                let scaled = weight * f64::from(1 << PRECISION_BITS);
                let fixed = (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32;
                let high = (fixed + (1 << (LOW_BITS - 1))) >> LOW_BITS;
                weights.high[position * stride + index] = high as i16;
                weights.low[position * stride + index] = (fixed - (high << LOW_BITS)) as i16;
            }
            weights.starts.push(start);
            weights.counts.push(end - start);
        }
        weights
    }

    fn halves(&self, position: usize) -> (&[i16], &[i16]) {
        let range = position * self.stride..(position + 1) * self.stride;
        (&self.high[range.clone()], &self.low[range])
    }

    /// The inputs that any output uses.
    fn used(&self) -> std::ops::Range<usize> {
        let first = self.starts.first().copied().unwrap_or(0);
        first..self.starts.last().zip(self.counts.last()).map_or(0, |(start, count)| start + count)
    }
}

/// Rounds a sum of halves to a pixel.
fn to_pixel(high: i32, low: i32) -> u8 {
    let sum = high.wrapping_shl(LOW_BITS).wrapping_add(low).wrapping_add(ROUNDING);
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Sums of products of pixels with both halves of the weights; all three are of one length, a multiple of [`LANES`].
fn weighted(pixels: &[i16], high: &[i16], low: &[i16]) -> u8 {
    let (mut high_sum, mut low_sum) = (0i32, 0i32);
    for ((pixel, high), low) in pixels.iter().zip(high).zip(low) {
        high_sum = high_sum.wrapping_add(i32::from(*pixel) * i32::from(*high));
        low_sum = low_sum.wrapping_add(i32::from(*pixel) * i32::from(*low));
    }
    to_pixel(high_sum, low_sum)
}

/// Sums rows with one weight each: `output[x] = sum over y of weight[y] * row[y][x]`.
fn weighted_rows(rows: &[u8], width: usize, high: &[i16], low: &[i16], output: &mut [u8]) {
    for (block, output) in output.chunks_mut(BLOCK).enumerate() {
        let (mut high_sums, mut low_sums) = ([0i32; BLOCK], [0i32; BLOCK]);
        for ((row, high), low) in rows.chunks_exact(width).zip(high).zip(low) {
            let pixels = &row[block * BLOCK..][..output.len()];
            for ((pixel, high_sum), low_sum) in pixels.iter().zip(&mut high_sums).zip(&mut low_sums) {
                *high_sum = high_sum.wrapping_add(i32::from(*pixel) * i32::from(*high));
                *low_sum = low_sum.wrapping_add(i32::from(*pixel) * i32::from(*low));
            }
        }
        for ((pixel, high), low) in output.iter_mut().zip(high_sums).zip(low_sums) {
            *pixel = to_pixel(high, low);
        }
    }
}

/// What is resized, one row at a time, so that a conversion on the way costs no image in between.
pub(super) struct Source<F> {
    /// Width in pixels.
    pub(super) width: usize,
    /// Height in pixels.
    pub(super) height: usize,
    /// Writes a row into one plane a channel.
    pub(super) load_row: F,
}

/// Resizes to `[height, width, CHANNELS]`.
pub(super) fn resample<const CHANNELS: usize, F>(
    source: &Source<F>,
    width: usize,
    height: usize,
    filter: Filter,
) -> Vec<u8>
where
    F: Fn(usize, [&mut [i16]; CHANNELS]),
{
    if height == source.height {
        return resample_rows(source, 0..height, width, filter);
    }
    let rows = Weights::new(source.height, height, filter);
    if rows_first(source, width, height) {
        let loaded = load_rows(source, rows.used());
        let shortened = resample_columns(&loaded, source.width * CHANNELS, &rows);
        let load_row = |y: usize, planes: [&mut [i16]; CHANNELS]| split_row(&shortened, source.width, y, planes);
        return resample_rows(&Source { width: source.width, height, load_row }, 0..height, width, filter);
    }
    let narrowed = resample_rows(source, rows.used(), width, filter);
    resample_columns(&narrowed, width * CHANNELS, &rows)
}

/// Since version 13 Pillow runs the vertical pass first where it takes away more than twice as many rows as the horizontal
/// one takes away columns. The order shows in the last bit, since each pass rounds.
fn rows_first<F>(source: &Source<F>, width: usize, height: usize) -> bool {
    let fewer_rows = source.height as i64 - height as i64;
    let fewer_columns = source.width as i64 - width as i64;
    fewer_rows > 0 && fewer_rows > fewer_columns * 2
}

/// The used rows as bytes, `[rows, width, CHANNELS]`.
fn load_rows<const CHANNELS: usize, F>(source: &Source<F>, used: std::ops::Range<usize>) -> Vec<u8>
where
    F: Fn(usize, [&mut [i16]; CHANNELS]),
{
    let mut planes = vec![0i16; source.width * CHANNELS];
    let mut loaded = vec![0; used.len() * source.width * CHANNELS];
    for (y, line) in used.zip(loaded.chunks_exact_mut(source.width * CHANNELS)) {
        (source.load_row)(y, split_planes(&mut planes, source.width));
        join_planes(&planes, source.width, line, CHANNELS);
    }
    loaded
}

/// Cuts a buffer into one plane a channel.
fn split_planes<const CHANNELS: usize>(planes: &mut [i16], plane: usize) -> [&mut [i16]; CHANNELS] {
    let mut chunks = planes.chunks_exact_mut(plane);
    std::array::from_fn(|_| chunks.next().unwrap_or_default())
}

/// Planes of `plane` values to a line of pixels.
fn join_planes(planes: &[i16], plane: usize, line: &mut [u8], channels: usize) {
    for (channel, row) in planes.chunks_exact(plane).enumerate() {
        for (pixel, value) in line.chunks_exact_mut(channels).zip(row) {
            pixel[channel] = *value as u8;
        }
    }
}

/// One row of interleaved pixels into planes.
fn split_row<const CHANNELS: usize>(pixels: &[u8], width: usize, y: usize, mut planes: [&mut [i16]; CHANNELS]) {
    let row = &pixels[y * width * CHANNELS..(y + 1) * width * CHANNELS];
    for (channel, plane) in planes.iter_mut().enumerate() {
        for (value, pixel) in plane.iter_mut().zip(row.chunks_exact(CHANNELS)) {
            *value = i16::from(pixel[channel]);
        }
    }
}

/// The vertical pass over lines of which the first is the first that is used.
fn resample_columns(lines: &[u8], line: usize, rows: &Weights) -> Vec<u8> {
    let first = rows.used().start;
    let mut output = vec![0; line * rows.starts.len()];
    for (y, output) in output.chunks_exact_mut(line).enumerate() {
        let (high, low) = rows.halves(y);
        let (start, count) = (rows.starts[y] - first, rows.counts[y]);
        weighted_rows(&lines[start * line..(start + count) * line], line, &high[..count], &low[..count], output);
    }
    output
}

/// The horizontal pass over the rows that the vertical one will use.
fn resample_rows<const CHANNELS: usize, F>(
    source: &Source<F>,
    used: std::ops::Range<usize>,
    width: usize,
    filter: Filter,
) -> Vec<u8>
where
    F: Fn(usize, [&mut [i16]; CHANNELS]),
{
    let columns = Weights::new(source.width, width, filter);
    // zeros behind each plane meet the zeros that pad the weights
    let plane = source.width + columns.stride;
    let mut planes = vec![0i16; plane * CHANNELS];
    let line = width * CHANNELS;
    let mut output = vec![0; line * used.len()];
    for (y, output) in used.zip(output.chunks_exact_mut(line)) {
        (source.load_row)(y, split_planes(&mut planes, plane).map(|row| &mut row[..source.width]));
        if width == source.width {
            join_planes(&planes, plane, output, CHANNELS);
            continue;
        }
        for (x, pixel) in output.chunks_exact_mut(CHANNELS).enumerate() {
            let (high, low) = columns.halves(x);
            for (value, row) in pixel.iter_mut().zip(planes.chunks_exact(plane)) {
                *value = weighted(&row[columns.starts[x]..][..columns.stride], high, low);
            }
        }
    }
    output
}

/// Resizes an RGB image, as `Image.resize` of Pillow does in mode RGB. A side of zero gives an empty image.
pub fn resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    let empty = image.data().is_empty() || width == 0 || height == 0;
    let data = if empty {
        Vec::new()
    } else if (width, height) == (image.width(), image.height()) {
        image.data().to_vec()
    } else {
        let load_row = |y: usize, planes: [&mut [i16]; 3]| split_row(image.data(), image.width() as usize, y, planes);
        let source = Source { width: image.width() as usize, height: image.height() as usize, load_row };
        resample(&source, width as usize, height as usize, filter)
    };
    let (width, height) = if empty { (0, 0) } else { (width, height) };
    RgbImage::new(width, height, data).expect("the resampler fills [height, width, 3]")
}

/// Resizes grey pixels `[height, width]`, as `Image.resize` of Pillow does in mode L. `size` and `target` are
/// (width, height); a side of zero, or pixels of another number than `size` says, give no pixels.
pub fn resize_grey(pixels: &[u8], size: (u32, u32), target: (u32, u32), filter: Filter) -> Vec<u8> {
    let (width, height) = (size.0 as usize, size.1 as usize);
    if pixels.is_empty() || pixels.len() != width * height || target.0 == 0 || target.1 == 0 {
        return Vec::new();
    }
    let load_row = |y: usize, planes: [&mut [i16]; 1]| split_row(pixels, width, y, planes);
    resample(&Source { width, height, load_row }, target.0 as usize, target.1 as usize, filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn nothing_to_resize_gives_nothing() {
        let image = RgbImage::new(2, 2, vec![1; 12]).unwrap();
        assert!(resize(&image, 0, 5, Filter::Bicubic).data().is_empty());
        assert!(resize_grey(&[1, 2], (3, 1), (2, 2), Filter::Bicubic).is_empty());
    }

    /// The sums as Pillow's loop writes them.
    fn plain(pixels: &[u8], weights: &Weights, position: usize) -> u8 {
        let (high, low) = weights.halves(position);
        let start = weights.starts[position];
        let mut sum = ROUNDING;
        for index in 0..weights.counts[position] {
            let weight = (i32::from(high[index]) << LOW_BITS) + i32::from(low[index]);
            sum += i32::from(pixels[start + index]) * weight;
        }
        (sum >> PRECISION_BITS).clamp(0, 255) as u8
    }

    proptest! {
        #[test]
        fn split_weights_change_nothing(pixels in prop::collection::vec(any::<u8>(), 1..400), output in 1usize..200) {
            let weights = Weights::new(pixels.len(), output, Filter::Lanczos3);
            let resized = resize_grey(&pixels, (pixels.len() as u32, 1), (output as u32, 1), Filter::Lanczos3);
            if output != pixels.len() {
                for (position, value) in resized.iter().enumerate() {
                    prop_assert_eq!(*value, plain(&pixels, &weights, position));
                }
            }
        }
    }
}
