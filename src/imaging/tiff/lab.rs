//! Conversion of CIE Lab to sRGB as Pillow's `convert("RGB")`, which LittleCMS does.
//!
//! LittleCMS 2 (`cmsopt.c`, `OptimizeByResampling`) computes the colours of a grid of 33 x 33 x 33
//! points, of 16 bits a sample, and interpolates between them within tetrahedra. All 2^24 colours
//! equal Pillow's.

use std::sync::LazyLock;

/// Points of the grid along an axis.
const POINTS: usize = 33;

/// White point D50 (ICC.1, section 7.2.16).
const D50: [f64; 3] = [0.9642, 1.0, 0.8249];

/// Largest X, Y and Z that ICC profiles can encode.
const MAX_XYZ: f64 = 1.0 + 32_767.0 / 32_768.0;

/// Matrix from XYZ relative to D50, in units of [`MAX_XYZ`], to linear sRGB: the inverse of the
/// primaries of Rec. 709, adapted from D65 by Bradford's method.
const XYZ_TO_RGB: [[f64; 3]; 3] = [
    [6.268277080696412, -3.2343685646958003, -0.9813731532183343],
    [-1.9574671393474465, 3.832201717897245, 0.06686577801362019],
    [0.14392565943970465, -0.457980758567983, 2.8114645655935195],
];

/// RGB of 16 bits of the points of the grid; L varies slowest, b fastest.
static GRID: LazyLock<Vec<[u16; 3]>> = LazyLock::new(|| {
    let level = |index: usize| (index as f64 * 65_535.0 / (POINTS - 1) as f64 + 0.5).floor() as f32 / 65_535.0;
    let points = (0..POINTS * POINTS * POINTS)
        .map(|index| convert(level(index / (POINTS * POINTS)), level(index / POINTS % POINTS), level(index % POINTS)));
    points.collect()
});

/// Converts a colour whose samples are scaled to 0 to 1. Each step is rounded to `f32`, as in
/// LittleCMS.
fn convert(l: f32, a: f32, b: f32) -> [u16; 3] {
    let (l, a, b) = (f64::from(l) * 100.0, f64::from(a) * 255.0 - 128.0, f64::from(b) * 255.0 - 128.0);
    let y = (l + 16.0) / 116.0;
    let cube = |t: f64| if t <= 24.0 / 116.0 { 108.0 / 841.0 * (t - 16.0 / 116.0) } else { t * t * t };
    let levels = [y + 0.002 * a, y, y - 0.005 * b];
    let xyz: [f64; 3] = std::array::from_fn(|axis| f64::from((cube(levels[axis]) * D50[axis] / MAX_XYZ) as f32));
    XYZ_TO_RGB.map(|row| {
        let linear = f64::from((xyz[0] * row[0] + xyz[1] * row[1] + xyz[2] * row[2]) as f32);
        // Saturates.
        (f64::from(srgb(linear) as f32) * 65_535.0 + 0.5) as u16
    })
}

/// Inverse of the curve of sRGB (IEC 61966-2-1), with the constants of LittleCMS.
fn srgb(linear: f64) -> f64 {
    let (scale, offset) = (1.0 / 1.055, 0.055 / 1.055);
    if linear >= libm::pow(0.04045 * scale + offset, 2.4) {
        (libm::pow(linear, 1.0 / 2.4) - offset) / scale
    } else {
        linear / (1.0 / 12.92)
    }
}

/// Converts a pixel: L, and a and b as signed bytes.
pub(super) fn lab_to_rgb(pixel: [u8; 3]) -> [u8; 3] {
    let samples = [pixel[0], pixel[1] ^ 0x80, pixel[2] ^ 0x80];
    // Positions on the grid, with 16 fractional bits.
    let positions = samples.map(|sample| {
        let scaled = i64::from(sample) * 257 * (POINTS - 1) as i64;
        scaled + (scaled + 0x7fff) / 0xffff
    });
    let strides = [POINTS * POINTS, POINTS, 1];
    let mut axes = [0, 1, 2];
    axes.sort_by_key(|axis| -(positions[*axis] & 0xffff));
    let mut at: usize = (0..3).map(|axis| (positions[axis] >> 16) as usize * strides[axis]).sum();
    let start = GRID[at];
    let mut before = start;
    let mut sums = [0x8001_i64; 3];
    for axis in axes {
        // The last point of an axis has no neighbour, and its position no fraction.
        at += if samples[axis] == 255 { 0 } else { strides[axis] };
        let next = GRID[at];
        for band in 0..3 {
            let step = i64::from(next[band]) - i64::from(before[band]);
            sums[band] += step * (positions[axis] & 0xffff);
        }
        before = next;
    }
    std::array::from_fn(|band| {
        let value = i64::from(start[band]) + ((sums[band] + (sums[band] >> 16)) >> 16);
        ((value * 65_281 + 8_388_608) >> 24) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All colours, L slowest and b fastest, in the order of unsigned bytes. The hash is that of
    /// `tests/oracles/imaging_lab.py`.
    #[test]
    fn all_colours_equal_pillows() {
        let mut hash = blake3::Hasher::new();
        for l in 0..=255 {
            let plane: Vec<[u8; 3]> = (0..=255).flat_map(|a| (0..=255).map(move |b| lab_to_rgb([l, a, b]))).collect();
            hash.update(plane.as_flattened());
        }
        assert_eq!(
            hash.finalize().to_hex().as_str(),
            "1ddeae82e34c81316b7a171cd43add805a76ad19662771d62346c4a47d38565b"
        );
    }
}
