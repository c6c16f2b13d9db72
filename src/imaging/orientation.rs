//! EXIF orientation: read from EXIF or XMP, applied to pixels as `ImageOps.exif_transpose` does.

use super::rgb::RgbImage;

/// EXIF orientation, 1 to 8: the transform from the stored to the upright image (EXIF 2.3, tag
/// 0x0112).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Orientation(u8);

/// Stored corners by orientation, in the order of the upright ones: top left, top right, bottom
/// right and bottom left.
#[cfg(any(feature = "avif", feature = "heic"))]
const UPRIGHT_CORNERS: [[usize; 4]; 8] =
    [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0], [0, 3, 2, 1], [3, 0, 1, 2], [2, 1, 0, 3], [1, 2, 3, 0]];

impl Orientation {
    /// Orientation of an image that is stored upright.
    pub const UPRIGHT: Self = Self(1);

    /// Converts a tag's value; anything but 1 to 8 gives upright, as in Pillow.
    pub fn from_tag(value: u32) -> Self {
        match value {
            1..=8 => Self(value as u8),
            _ => Self::UPRIGHT,
        }
    }

    /// Returns the tag's value, 1 to 8.
    pub fn tag(self) -> u8 {
        self.0.max(1)
    }

    /// Whether the transform swaps width and height.
    pub fn swaps_sides(self) -> bool {
        self.0 >= 5
    }

    /// Finds the orientation in an EXIF block, or else in an XMP packet.
    pub(super) fn find(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Self {
        let tag = exif.and_then(find_in_exif).or_else(|| xmp.and_then(find_in_xmp));
        tag.map_or(Self::UPRIGHT, Self::from_tag)
    }

    /// Finds the orientation in an XMP packet, unless EXIF has one, which is not used.
    #[cfg(any(feature = "avif", feature = "heic"))]
    pub(super) fn find_unless_exif_has_one(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Self {
        if exif.and_then(find_in_exif).is_some() { Self::UPRIGHT } else { Self::find(None, xmp) }
    }

    /// Returns the transform that applies this one and then `next`.
    #[cfg(any(feature = "avif", feature = "heic"))]
    pub(super) fn then(self, next: Self) -> Self {
        let corners = |orientation: Self| UPRIGHT_CORNERS[usize::from(orientation.tag()) - 1];
        let both = corners(next).map(|corner| corners(self)[corner]);
        let tag = (1..=8).find(|tag| corners(Self(*tag)) == both);
        tag.map_or(Self::UPRIGHT, Self)
    }

    /// Transforms stored pixels to upright ones.
    pub(super) fn apply(self, image: RgbImage) -> RgbImage {
        if self.tag() == 1 {
            return image;
        }
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (out_width, out_height) = if self.swaps_sides() { (height, width) } else { (width, height) };
        let source = image.data();
        let mut data = Vec::with_capacity(source.len());
        for y in 0..out_height {
            for x in 0..out_width {
                let (from_x, from_y) = match self.0 {
                    2 => (width - 1 - x, y),
                    3 => (width - 1 - x, height - 1 - y),
                    4 => (x, height - 1 - y),
                    5 => (y, x),
                    6 => (y, height - 1 - x),
                    7 => (width - 1 - y, height - 1 - x),
                    _ => (width - 1 - y, x),
                };
                let at = (from_y * width + from_x) * 3;
                data.extend_from_slice(&source[at..at + 3]);
            }
        }
        RgbImage::new(out_width as u32, out_height as u32, data).expect("the same pixels in another order")
    }
}

/// Bytes of a TIFF, read as integers in its byte order; reads past the end return `None`.
#[derive(Clone, Copy)]
pub(super) struct TiffBytes<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) big_endian: bool,
}

impl<'a> TiffBytes<'a> {
    /// Returns `len` bytes at offset `at`.
    pub(super) fn slice(self, at: u64, len: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(at).ok()?;
        let end = usize::try_from(at.checked_add(len)?).ok()?;
        self.bytes.get(start..end)
    }

    /// Returns the unsigned integer of `len` bytes (at most 8) at offset `at`.
    pub(super) fn uint(self, at: u64, len: u64) -> Option<u64> {
        let slice = self.slice(at, len)?;
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if self.big_endian { slice.iter().fold(0, fold) } else { slice.iter().rev().fold(0, fold) })
    }
}

/// Returns the value of tag 0x0112 in an EXIF block, with or without the prefix `Exif\0\0`; the
/// last one if it is repeated.
fn find_in_exif(block: &[u8]) -> Option<u32> {
    let mut bytes = block;
    while let Some(rest) = bytes.strip_prefix(b"Exif\0\0") {
        bytes = rest;
    }
    let big_endian = match bytes.get(..4)? {
        b"II*\0" => false,
        b"MM\0*" => true,
        _ => return None,
    };
    let tiff = TiffBytes { bytes, big_endian };
    let directory = tiff.uint(4, 4)?;
    let entries = tiff.uint(directory, 2)?;
    let mut value = None;
    for entry in 0..entries {
        let at = directory + 2 + entry * 12;
        let Some(tag) = tiff.uint(at, 2) else { break };
        if tag == 0x0112 && tiff.uint(at + 4, 4) == Some(1) {
            // SHORT and LONG, signed or not. Values of other types never equal an orientation.
            value = match tiff.uint(at + 2, 2)? {
                3 | 8 => tiff.uint(at + 8, 2),
                4 | 9 | 13 => tiff.uint(at + 8, 4),
                6 => tiff.uint(at + 8, 1),
                _ => Some(0),
            };
        }
    }
    value.map(|value| value as u32)
}

/// Returns the first `tiff:Orientation="N"` or `<tiff:Orientation>N` of an XMP packet.
fn find_in_xmp(packet: &[u8]) -> Option<u32> {
    const NAME: &[u8] = b"tiff:Orientation";
    let mut rest = packet;
    while let Some(at) = rest.windows(NAME.len()).position(|window| window == NAME) {
        rest = &rest[at + NAME.len()..];
        match rest {
            [b'=', b'"', digit @ b'0'..=b'9', ..] | [b'>', digit @ b'0'..=b'9', ..] => {
                return Some(u32::from(digit - b'0'));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exif(big_endian: bool, kind: u16, value: u32) -> Vec<u8> {
        let mut block = b"Exif\0\0".to_vec();
        let short = |v: u16| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
        let long = |v: u32| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
        block.extend_from_slice(if big_endian { b"MM\0*" } else { b"II*\0" });
        block.extend_from_slice(&long(8));
        block.extend_from_slice(&short(1));
        block.extend_from_slice(&short(0x0112));
        block.extend_from_slice(&short(kind));
        block.extend_from_slice(&long(1));
        match kind {
            3 => block.extend_from_slice(&[short(value as u16), [0, 0]].concat()),
            _ => block.extend_from_slice(&long(value)),
        }
        block
    }

    #[test]
    fn both_byte_orders_and_both_widths_are_read() {
        for big_endian in [false, true] {
            for kind in [3, 4] {
                assert_eq!(Orientation::find(Some(&exif(big_endian, kind, 6)), None).tag(), 6);
            }
        }
        assert_eq!(Orientation::find(Some(&exif(false, 3, 9)), None).tag(), 1);
        assert_eq!(Orientation::find(Some(&exif(false, 3, 6)[..20]), None).tag(), 1);
    }

    #[test]
    fn xmp_counts_only_without_exif() {
        let packet = br#"<x tiff:Orientation="" tiff:Orientation="8"/>"#;
        assert_eq!(Orientation::find(None, Some(packet)).tag(), 8);
        assert_eq!(Orientation::find(Some(&exif(true, 3, 3)), Some(packet)).tag(), 3);
        assert_eq!(Orientation::find(None, Some(b"<tiff:Orientation>5</tiff:Orientation>")).tag(), 5);
    }

    #[cfg(any(feature = "avif", feature = "heic"))]
    #[test]
    fn orientations_are_applied_one_after_another() {
        let stored = RgbImage::new(3, 2, (0..18).collect()).unwrap();
        for first in (1..=8).map(Orientation::from_tag) {
            for second in (1..=8).map(Orientation::from_tag) {
                let expected = second.apply(first.apply(stored.clone()));
                assert_eq!(first.then(second).apply(stored.clone()), expected, "{first:?}, {second:?}");
            }
        }
    }

    #[test]
    fn orientation_six_rotates_clockwise() {
        let pixel = |value: u8| [value; 3];
        let stored = RgbImage::new(2, 1, [pixel(1), pixel(2)].concat()).unwrap();
        let upright = Orientation::from_tag(6).apply(stored);
        assert_eq!((upright.width(), upright.height()), (1, 2));
        assert_eq!(upright.data(), [pixel(1), pixel(2)].concat());
    }
}
