//! Inverse cosine transform of 8x8 blocks, in the integer arithmetic of libjpeg's accurate method.
//!
//! The algorithm is that of Loeffler, Ligtenberg and Moschytz ("Practical fast 1-D DCT algorithms
//! with 11 multiplications", ICASSP 1989). Columns are transformed first and kept with 2 extra
//! bits, then rows. Constants have 13 fractional bits.

use pulp::{Arch, Simd, WithSimd};

use super::frame::SIDE;
use super::scan::Block;

const CONST_BITS: u32 = 13;
const PASS1_BITS: u32 = 2;

/// Eight values that are processed in parallel.
type Lanes = [i32; SIDE];

/// Transforms a row of blocks into 8 lines of samples.
pub(super) fn inverse(blocks: &[Block], quantisation: &[u16; 64], lines: &mut [u8]) {
    Arch::new().dispatch(InverseDct { blocks, quantisation, lines });
}

struct InverseDct<'a> {
    blocks: &'a [Block],
    quantisation: &'a [u16; 64],
    lines: &'a mut [u8],
}

impl WithSimd for InverseDct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let stride = self.blocks.len() * SIDE;
        for (index, block) in self.blocks.iter().enumerate() {
            let samples = if block[1..].iter().fold(0, |all, value| all | value) == 0 {
                transform_flat(block[0], self.quantisation[0])
            } else {
                transform(block, self.quantisation)
            };
            for (line, samples) in self.lines.chunks_exact_mut(stride).zip(samples) {
                line[index * SIDE..][..SIDE].copy_from_slice(&samples);
            }
        }
    }
}

/// Transforms a block that has only its DC coefficient, with the same result as [`transform`].
#[inline(always)]
fn transform_flat(mean: i16, quantisation: u16) -> [[u8; SIDE]; SIDE] {
    let column = i32::from(dequantise(mean, quantisation) << PASS1_BITS);
    [[to_sample(descale(column, PASS1_BITS + 3)); SIDE]; SIDE]
}

#[inline(always)]
fn transform(block: &Block, quantisation: &[u16; 64]) -> [[u8; SIDE]; SIDE] {
    let mut input = [[0; SIDE]; SIDE];
    for (y, row) in input.iter_mut().enumerate() {
        for (x, value) in row.iter_mut().enumerate() {
            *value = i32::from(dequantise(block[y * SIDE + x], quantisation[y * SIDE + x]));
        }
    }
    let columns = if block[SIDE..].iter().fold(0, |all, value| all | value) == 0 {
        // As in libjpeg-turbo, which wraps around here and saturates in the full transform.
        [wrap(scale(input[0], 1 << PASS1_BITS)); SIDE]
    } else {
        saturate(pass(&input, CONST_BITS - PASS1_BITS))
    };
    let rows = pass(&transpose(&columns), CONST_BITS + PASS1_BITS + 3);
    let mut samples = [[0; SIDE]; SIDE];
    for (samples, values) in samples.iter_mut().zip(transpose(&rows)) {
        for (sample, value) in samples.iter_mut().zip(values) {
            *sample = to_sample(value);
        }
    }
    samples
}

/// Multiplies in 16 bits with wraparound.
#[inline(always)]
fn dequantise(coefficient: i16, quantisation: u16) -> i16 {
    coefficient.wrapping_mul(quantisation as i16)
}

#[inline(always)]
fn to_sample(value: i32) -> u8 {
    value.wrapping_add(128).clamp(0, 255) as u8
}

#[inline(always)]
fn transpose(rows: &[Lanes; SIDE]) -> [Lanes; SIDE] {
    let mut columns = [[0; SIDE]; SIDE];
    for x in 0..SIDE {
        for y in 0..SIDE {
            columns[x][y] = rows[y][x];
        }
    }
    columns
}

/// Rounds to an integer by removing `bits` fractional bits.
#[inline(always)]
fn descale(value: i32, bits: u32) -> i32 {
    value.wrapping_add(1 << (bits - 1)) >> bits
}

// Loops instead of `array::map`, whose closures would be compiled without the wide instructions.

#[inline(always)]
fn add(one: Lanes, other: Lanes) -> Lanes {
    let mut sum = [0; SIDE];
    for lane in 0..SIDE {
        sum[lane] = one[lane].wrapping_add(other[lane]);
    }
    sum
}

#[inline(always)]
fn sub(one: Lanes, other: Lanes) -> Lanes {
    let mut difference = [0; SIDE];
    for lane in 0..SIDE {
        difference[lane] = one[lane].wrapping_sub(other[lane]);
    }
    difference
}

#[inline(always)]
fn scale(one: Lanes, factor: i32) -> Lanes {
    let mut product = [0; SIDE];
    for lane in 0..SIDE {
        product[lane] = one[lane].wrapping_mul(factor);
    }
    product
}

#[inline(always)]
fn descale_lanes(one: Lanes, bits: u32) -> Lanes {
    let mut rounded = [0; SIDE];
    for lane in 0..SIDE {
        rounded[lane] = descale(one[lane], bits);
    }
    rounded
}

/// Reduces values to 16 bits with wraparound.
#[inline(always)]
fn wrap(one: Lanes) -> Lanes {
    let mut wrapped = [0; SIDE];
    for lane in 0..SIDE {
        wrapped[lane] = i32::from(one[lane] as i16);
    }
    wrapped
}

/// Clamps values to 16 bits.
#[inline(always)]
fn saturate(mut rows: [Lanes; SIDE]) -> [Lanes; SIDE] {
    for value in rows.as_flattened_mut() {
        *value = (*value).clamp(i16::MIN.into(), i16::MAX.into());
    }
    rows
}

/// Transforms eight vectors in one dimension. The factors are named by their values.
#[inline(always)]
fn pass(input: &[Lanes; SIDE], bits: u32) -> [Lanes; SIDE] {
    const F_0_298631336: i32 = 2446;
    const F_0_390180644: i32 = 3196;
    const F_0_541196100: i32 = 4433;
    const F_0_765366865: i32 = 6270;
    const F_0_899976223: i32 = 7373;
    const F_1_175875602: i32 = 9633;
    const F_1_501321110: i32 = 12299;
    const F_1_847759065: i32 = 15137;
    const F_1_961570560: i32 = 16069;
    const F_2_053119869: i32 = 16819;
    const F_2_562915447: i32 = 20995;
    const F_3_072711026: i32 = 25172;
    let [i0, i1, i2, i3, i4, i5, i6, i7] = *input;

    // Even inputs: a rotation and two butterflies.
    let turned = scale(add(i2, i6), F_0_541196100);
    let low = sub(turned, scale(i6, F_1_847759065));
    let high = add(turned, scale(i2, F_0_765366865));
    let sum = scale(wrap(add(i0, i4)), 1 << CONST_BITS);
    let difference = scale(wrap(sub(i0, i4)), 1 << CONST_BITS);
    let even = [add(sum, high), add(difference, low), sub(difference, low), sub(sum, high)];

    // Odd inputs.
    let outer = scale(add(i7, i1), -F_0_899976223);
    let inner = scale(add(i5, i3), -F_2_562915447);
    let (left, right) = (wrap(add(i7, i3)), wrap(add(i5, i1)));
    let both = scale(add(left, right), F_1_175875602);
    let left = add(scale(left, -F_1_961570560), both);
    let right = add(scale(right, -F_0_390180644), both);
    let odd = [
        add(scale(i1, F_1_501321110), add(outer, right)),
        add(scale(i3, F_3_072711026), add(inner, left)),
        add(scale(i5, F_2_053119869), add(inner, right)),
        add(scale(i7, F_0_298631336), add(outer, left)),
    ];

    let mut output = [[0; SIDE]; SIDE];
    for index in 0..SIDE / 2 {
        output[index] = descale_lanes(add(even[index], odd[index]), bits);
        output[SIDE - 1 - index] = descale_lanes(sub(even[index], odd[index]), bits);
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_block_gives_the_same_as_the_full_transform() {
        for mean in [-1024, -3, 0, 1, 77, 1023] {
            let mut block = [0; 64];
            block[0] = mean;
            assert_eq!(transform_flat(mean, 3), transform(&block, &[3; 64]), "{mean}");
        }
    }

    #[test]
    fn one_coefficient_gives_its_cosine() {
        let mut block = [0; 64];
        block[1] = 400;
        let samples = transform(&block, &[1; 64]);
        for (x, sample) in samples[0].iter().enumerate() {
            let angle = (2 * x + 1) as f64 * std::f64::consts::PI / 16.0;
            let expected = 128.0 + 400.0 / 4.0 * std::f64::consts::FRAC_1_SQRT_2 * angle.cos();
            assert!((f64::from(*sample) - expected).abs() <= 0.6, "{x}: {sample} {expected}");
        }
    }
}
