//! Windows bitmaps, read as Pillow reads them: the same kinds, masks, palettes and run lengths.

use super::error::ImageError;
use super::format::Format;
use super::header::{Header, bytes_at};
use super::rgb::RgbImage;

const RAW: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BITFIELDS: u32 = 3;

/// Reads the size. BITMAPCOREHEADER has 16-bit sides, every later header 32-bit ones; with a
/// negative height the rows are stored from the top.
pub(super) fn read_header(bytes: &[u8]) -> Result<Header, ImageError> {
    let header_size = u32::from_le_bytes(bytes_at(bytes, 14)?);
    if header_size == 16 {
        return Err(ImageError::unsupported("BMP with a header of 16 bytes", "FILE.bmp"));
    }
    let (width, height) = if header_size == 12 {
        let width = u16::from_le_bytes(bytes_at(bytes, 18)?);
        let height = u16::from_le_bytes(bytes_at(bytes, 20)?);
        (i32::from(width), u32::from(height))
    } else {
        let width = i32::from_le_bytes(bytes_at(bytes, 18)?);
        (width, i32::from_le_bytes(bytes_at(bytes, 22)?).unsigned_abs())
    };
    let width = u32::try_from(width).map_err(|_| ImageError::Corrupt(format!("a width of {width}")))?;
    Ok(Header::upright(Format::Bmp, width, height))
}

/// Conversion of stored pixels to RGB.
enum Pixels {
    /// Indices of 1, 4 or 8 bits.
    Palette(Vec<[u8; 3]>),
    /// Little-endian integers of 16 bits, with the bits of green; blue and red have 5.
    Packed { green_bits: u32 },
    /// Byte offsets of red, green and blue in a pixel.
    Bytes([usize; 3]),
}

/// Decodes the pixels.
pub(super) fn decode_pixels(bytes: &[u8], header: &Header) -> Result<RgbImage, ImageError> {
    let word = |at: usize| bytes_at(bytes, at).map(u32::from_le_bytes);
    let header_size = word(14)? as usize;
    let is_core = header_size == 12;
    bytes_at::<1>(bytes, 14 + header_size - 1)?;
    let bits = usize::from(u16::from_le_bytes(bytes_at(bytes, if is_core { 24 } else { 28 })?));
    let compression = if is_core { RAW } else { word(30)? };
    // The three masks follow a short header.
    let has_loose_masks = compression == BITFIELDS && header_size < 52;
    let after_header = 14 + header_size + if has_loose_masks { 12 } else { 0 };
    let unsupported = |problem: String| ImageError::unsupported(&format!("BMP with {problem}"), "FILE.bmp");

    let mut at = word(10)? as usize;
    let pixels = match (bits, compression) {
        (1 | 4 | 8, RAW | RLE8 | RLE4) => {
            let declared = if is_core { 0 } else { word(46)? as usize };
            let colors = if declared == 0 { 1 << bits } else { declared };
            if colors > 65_536 {
                return Err(ImageError::Corrupt(format!("a palette of {colors} colours")));
            }
            let entry = if is_core { 3 } else { 4 };
            if at == 14 + header_size || at == 0 {
                at = 14 + header_size + entry * colors;
            }
            Pixels::Palette(read_palette(&bytes[14 + header_size..], entry, colors, bits))
        }
        (16, RAW) => Pixels::Packed { green_bits: 5 },
        (24 | 32, RAW) => Pixels::Bytes([2, 1, 0]),
        (16 | 24 | 32, BITFIELDS) => {
            let masks = [word(54)?, word(58)?, word(62)?];
            let alpha = if header_size >= 56 { word(66)? } else { 0 };
            let pixels = match (bits, masks, alpha) {
                (16, [0x7c00, 0x3e0, 0x1f], _) => Some(Pixels::Packed { green_bits: 5 }),
                (16, [0xf800, 0x7e0, 0x1f], _) => Some(Pixels::Packed { green_bits: 6 }),
                (24, [0xff_0000, 0xff00, 0xff], _) => Some(Pixels::Bytes([2, 1, 0])),
                (32, [0xff_0000, 0xff00, 0xff], 0 | 0xff00_0000) => Some(Pixels::Bytes([2, 1, 0])),
                (32, [0, 0, 0], 0) => Some(Pixels::Bytes([2, 1, 0])),
                (32, [0xff00_0000, 0xff_0000, 0xff00], 0 | 0xff) => Some(Pixels::Bytes([3, 2, 1])),
                (32, [0xff00_0000, 0xff00, 0xff], 0 | 0xff_0000) => Some(Pixels::Bytes([3, 1, 0])),
                (32, [0xff, 0xff00, 0xff_0000], 0xff00_0000) => Some(Pixels::Bytes([0, 1, 2])),
                _ => None,
            };
            pixels.ok_or_else(|| unsupported(format!("{bits} bits and the masks {masks:08x?} {alpha:08x}")))?
        }
        _ => return Err(unsupported(format!("{bits} bits and compression {compression}"))),
    };
    if at == 0 {
        at = after_header;
    }
    let stored = bytes.get(at..).unwrap_or_default();
    let (width, height) = (header.stored_width as usize, header.stored_height as usize);
    let indices;
    let (stored, bits) = match compression {
        RLE8 | RLE4 => {
            indices = unpack_runs(bytes, at, (width, height), compression == RLE4);
            (indices.as_slice(), 8)
        }
        _ => (stored, bits),
    };
    let row_bytes = (width * bits).div_ceil(8);
    let stride = if matches!(compression, RLE8 | RLE4) { width } else { row_bytes.next_multiple_of(4) };
    if stored.len() < (height - 1) * stride + row_bytes {
        return Err(ImageError::Truncated("the pixel data is cut off".to_owned()));
    }
    let is_top_down = !is_core && bytes_at::<1>(bytes, 25)? == [0xff];
    let mut data = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        let row = &stored[if is_top_down { y } else { height - 1 - y } * stride..][..row_bytes];
        match &pixels {
            Pixels::Palette(colors) => {
                let index = |x: usize| row[x * bits / 8] >> (8 - bits - x * bits % 8) & (0xffu16 >> (8 - bits)) as u8;
                data.extend((0..width).flat_map(|x| colors[usize::from(index(x))]));
            }
            Pixels::Packed { green_bits } => {
                let expand = |value: u32, bits: u32| {
                    let full = (1 << bits) - 1;
                    ((value & full) * 255 / full) as u8
                };
                data.extend(row.chunks_exact(2).flat_map(|pair| {
                    let pixel = u32::from(u16::from_le_bytes([pair[0], pair[1]]));
                    [expand(pixel >> (5 + green_bits), 5), expand(pixel >> 5, *green_bits), expand(pixel, 5)]
                }));
            }
            Pixels::Bytes(offsets) => {
                data.extend(row.chunks_exact(bits / 8).flat_map(|pixel| offsets.map(|offset| pixel[offset])));
            }
        }
    }
    RgbImage::from_decoder(header.stored_width, header.stored_height, data)
}

/// Reads a palette of 256 colours; those that are not stored are black. A palette of all greys in
/// order is dropped, as in Pillow, so that indices past its end are greys too.
fn read_palette(stored: &[u8], entry: usize, colors: usize, bits: usize) -> Vec<[u8; 3]> {
    let color = |index: usize| {
        let at = index * entry;
        stored.get(at..at + 3).filter(|_| index < colors).map(|raw| [raw[2], raw[1], raw[0]])
    };
    let grey = |index: usize| if colors == 2 { index as u8 * 255 } else { index as u8 };
    if (0..colors).all(|index| color(index) == Some([grey(index); 3])) {
        return match (colors, bits) {
            (1 | 2, _) => (0..=255).map(|index| [if index == 0 { 0 } else { 255 }; 3]).collect(),
            _ => (0..=255).map(|index| [index; 3]).collect(),
        };
    }
    (0..256).map(|index| color(index).unwrap_or_default()).collect()
}

/// Unpacks run lengths to one index of a pixel per byte, with Pillow's treatment of rows that are
/// too long, and zeros where it ends early.
fn unpack_runs(bytes: &[u8], mut at: usize, (width, height): (usize, usize), is_four_bits: bool) -> Vec<u8> {
    let length = width * height;
    let mut data: Vec<u8> = Vec::with_capacity(length);
    let mut x = 0;
    let halves = |byte: u8| [byte >> 4, byte & 15];
    while data.len() < length {
        let Some([count, value]) = bytes.get(at..at + 2).map(|pair| [usize::from(pair[0]), usize::from(pair[1])])
        else {
            break;
        };
        at += 2;
        match (count, value) {
            (0, 0) => {
                data.resize(data.len().next_multiple_of(width), 0);
                x = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let Some(step) = bytes.get(at..at + 2) else { break };
                at += 2;
                let skipped = usize::from(step[0]) + usize::from(step[1]) * width;
                data.resize((data.len() + skipped).min(length), 0);
                x = data.len() % width;
            }
            (0, _) => {
                let count = value.min(length - data.len());
                let stored = if is_four_bits { count.div_ceil(2) } else { count };
                let run = bytes.get(at..).unwrap_or_default();
                let run = &run[..stored.min(run.len())];
                match is_four_bits {
                    true => data.extend(run.iter().flat_map(|byte| halves(*byte)).take(count)),
                    false => data.extend_from_slice(run),
                }
                at += run.len();
                if run.len() < stored || data.len() == length {
                    break;
                }
                x += value;
                at += at % 2;
            }
            _ => {
                let count = count.min(width.saturating_sub(x));
                match is_four_bits {
                    true => data.extend(halves(value as u8).iter().cycle().take(count)),
                    false => data.resize(data.len() + count, value as u8),
                }
                x += count;
            }
        }
    }
    data
}
