//! Frame header of a JPEG: its components and their sampling (T.81, B.2.2 and A.1.1).

use super::markers::Segment;
use crate::imaging::error::ImageError;

/// Number of samples per side of a block.
pub(super) const SIDE: usize = 8;

/// A frame: size, coding process and components.
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) is_progressive: bool,
    pub(super) components: Vec<Component>,
    /// Largest sampling factors, which components at full size have.
    pub(super) max_h: usize,
    pub(super) max_v: usize,
    /// Number of interleaved units (MCUs) across and down.
    pub(super) units_wide: usize,
    pub(super) units_high: usize,
}

/// A component (channel) of a frame.
pub(super) struct Component {
    pub(super) id: u8,
    /// Sampling factors: number of blocks of a unit across and down.
    pub(super) h: usize,
    pub(super) v: usize,
    /// Slot of the quantisation table.
    pub(super) quantisation: usize,
    /// Number of samples across and down.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Number of blocks that hold these samples.
    pub(super) blocks_wide: usize,
    pub(super) blocks_high: usize,
    /// Number of blocks in whole units.
    pub(super) padded_wide: usize,
    pub(super) padded_high: usize,
}

impl Frame {
    /// Parses a frame header.
    pub(super) fn read(segment: &Segment<'_>) -> Result<Self, ImageError> {
        let short = || ImageError::corrupt("a frame header that is too short");
        let [_, height_high, height_low, width_high, width_low, count, list @ ..] = segment.body else {
            return Err(short());
        };
        let width = usize::from(u16::from_be_bytes([*width_high, *width_low]));
        let height = usize::from(u16::from_be_bytes([*height_high, *height_low]));
        let count = usize::from(*count);
        if !matches!(count, 1 | 3 | 4) {
            return Err(ImageError::Unsupported(format!("JPEG with {count} components")));
        }
        let list = list.get(..count * 3).ok_or_else(short)?;
        let factors = |entry: &[u8]| (usize::from(entry[1] >> 4), usize::from(entry[1] & 15));
        if list.chunks_exact(3).map(factors).any(|(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
            return Err(ImageError::corrupt("sampling factors outside 1 to 4"));
        }
        let max_h = list.chunks_exact(3).map(|entry| factors(entry).0).max().unwrap_or(1);
        let max_v = list.chunks_exact(3).map(|entry| factors(entry).1).max().unwrap_or(1);
        let units_wide = width.div_ceil(SIDE * max_h);
        let units_high = height.div_ceil(SIDE * max_v);
        let component = |entry: &[u8]| {
            let (h, v) = factors(entry);
            Component {
                id: entry[0],
                h,
                v,
                quantisation: usize::from(entry[2]),
                width: (width * h).div_ceil(max_h),
                height: (height * v).div_ceil(max_v),
                blocks_wide: (width * h).div_ceil(max_h * SIDE),
                blocks_high: (height * v).div_ceil(max_v * SIDE),
                padded_wide: units_wide * h,
                padded_high: units_high * v,
            }
        };
        let components: Vec<Component> = list.chunks_exact(3).map(component).collect();
        if components.iter().any(|component| max_h % component.h != 0 || max_v % component.v != 0) {
            return Err(ImageError::Unsupported("JPEG with fractional sampling".to_owned()));
        }
        let is_progressive = segment.marker == 0xc2;
        Ok(Self { width, height, is_progressive, components, max_h, max_v, units_wide, units_high })
    }
}
