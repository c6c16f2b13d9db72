//! TIFF: size, orientation and palette are read here, and so are pages of JPEGs; the pixels of
//! other pages are decoded by the `tiff` crate.

use std::borrow::Cow;
use std::io::Cursor;

use ::tiff::decoder::{BufferLayoutPreference, Decoder, DecodingResult, Limits};
use ::tiff::{ColorType, TiffError};

use super::error::ImageError;
use super::format::Format;
use super::header::Header;
use super::jpeg::{self, ColorSpace};
use super::orientation::{Orientation, TiffBytes};
use super::rgb::{RgbImage, cmyk_to_rgb, deep_grey_to_rgb, first_three, float_to_bytes, grey_to_rgb, ycbcr_to_rgb};

const IMAGE_WIDTH: u64 = 256;
const IMAGE_LENGTH: u64 = 257;
const COMPRESSION: u64 = 259;
const PHOTOMETRIC: u64 = 262;
const STRIP_OFFSETS: u64 = 273;
const ORIENTATION: u64 = 274;
const ROWS_PER_STRIP: u64 = 278;
const STRIP_BYTES: u64 = 279;
const COLOR_MAP: u64 = 320;
const TILE_WIDTH: u64 = 322;
const TILE_LENGTH: u64 = 323;
const TILE_OFFSETS: u64 = 324;
const TILE_BYTES: u64 = 325;
const JPEG_TABLES: u64 = 347;
const XMP: u64 = 700;

const BLACK_IS_ZERO: u64 = 1;
const PALETTE: u64 = 3;

/// First directory of a TIFF or BigTIFF.
struct Directory<'a> {
    tiff: TiffBytes<'a>,
    is_big: bool,
    /// Offset of the first entry.
    first_entry: u64,
    /// Number of entries.
    entries: u64,
}

/// Location and type of a tag's values.
struct TagEntry {
    /// Offset of the first value in the file.
    at: u64,
    /// Bytes of a value.
    width: u64,
    /// Number of values.
    count: u64,
}

impl<'a> Directory<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let tiff = TiffBytes { bytes, big_endian: bytes.starts_with(b"MM") };
        let is_big = tiff.uint(2, 2)? == 43;
        let start = if is_big { tiff.uint(8, 8)? } else { tiff.uint(4, 4)? };
        let count_width = if is_big { 8 } else { 2 };
        let entries = tiff.uint(start, count_width)?;
        let first_entry = start.checked_add(count_width)?;
        let directory = Self { tiff, is_big, first_entry, entries };
        tiff.slice(first_entry, entries.checked_mul(directory.entry_width())?)?;
        Some(directory)
    }

    /// Returns the size of an entry in bytes.
    fn entry_width(&self) -> u64 {
        if self.is_big { 20 } else { 12 }
    }

    /// Finds a tag of integers or bytes.
    fn find(&self, tag: u64) -> Option<TagEntry> {
        let at = (0..self.entries)
            .map(|index| self.first_entry + index * self.entry_width())
            .find(|at| self.tiff.uint(*at, 2) == Some(tag))?;
        let width: u64 = match self.tiff.uint(at + 2, 2)? {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 13 => 4,
            16..=18 => 8,
            _ => return None,
        };
        let (inline, count) =
            if self.is_big { (8, self.tiff.uint(at + 4, 8)?) } else { (4, self.tiff.uint(at + 4, 4)?) };
        let value_at = at + 4 + inline;
        let at = if width.checked_mul(count)? <= inline { value_at } else { self.tiff.uint(value_at, inline)? };
        Some(TagEntry { at, width, count })
    }

    /// Whether a text is declared longer than `budget` bytes. This is checked first, since the
    /// decoder would print a message.
    fn has_oversized_text(&self, budget: usize) -> bool {
        let mut entries = (0..self.entries).map(|index| self.first_entry + index * self.entry_width());
        let count = |at: u64| self.tiff.uint(at + 4, if self.is_big { 8 } else { 4 });
        entries.any(|at| self.tiff.uint(at + 2, 2) == Some(2) && count(at) > Some(budget as u64))
    }

    /// Returns the values of a tag.
    fn values(&self, tag: u64) -> Option<Vec<u64>> {
        let TagEntry { at, width, count } = self.find(tag)?;
        self.tiff.slice(at, width.checked_mul(count)?)?;
        (0..count).map(|index| self.tiff.uint(at + index * width, width)).collect()
    }

    /// Returns the value of a tag that has exactly one.
    fn value(&self, tag: u64) -> Option<u64> {
        let entry = self.find(tag)?;
        (entry.count == 1).then(|| self.tiff.uint(entry.at, entry.width))?
    }
}

/// Reads size and orientation.
pub(super) fn read_header(bytes: &[u8]) -> Result<Header, ImageError> {
    let directory = Directory::read(bytes);
    let directory = directory.ok_or_else(|| ImageError::Truncated("its directory lies past the end".to_owned()))?;
    let side = |tag, name: &str| {
        let value = directory.value(tag).ok_or_else(|| ImageError::Corrupt(format!("no {name}")))?;
        u32::try_from(value).map_err(|_| ImageError::Corrupt(format!("a {name} of {value}")))
    };
    let (width, height) = (side(IMAGE_WIDTH, "width")?, side(IMAGE_LENGTH, "height")?);
    let orientation = match directory.value(ORIENTATION) {
        Some(tag) => Orientation::from_tag(u32::try_from(tag).unwrap_or(0)),
        None => {
            let xmp = directory.find(XMP).and_then(|entry| directory.tiff.slice(entry.at, entry.width * entry.count));
            Orientation::find(None, xmp)
        }
    };
    Ok(Header { format: Format::Tiff, stored_width: width, stored_height: height, orientation })
}

/// Reads the palette: all reds, then all greens, then all blues, of 16 bits each.
fn read_palette(directory: &Directory<'_>) -> Result<Vec<[u8; 3]>, ImageError> {
    let entry = directory.find(COLOR_MAP).filter(|entry| entry.width == 2);
    let entry = entry.ok_or_else(|| ImageError::corrupt("a palette image without a palette"))?;
    let colors = entry.count / 3;
    let sample = |index| Some((directory.tiff.uint(entry.at.checked_add(index * 2)?, 2)? >> 8) as u8);
    let color = |index| Some([sample(index)?, sample(colors + index)?, sample(2 * colors + index)?]);
    let palette: Option<Vec<[u8; 3]>> = (0..colors.min(256)).map(color).collect();
    palette.ok_or_else(|| ImageError::Truncated("its palette lies past the end".to_owned()))
}

/// Decodes the first page with at most `budget` bytes of memory.
pub(super) fn decode_pixels(bytes: &[u8], header: &Header, budget: usize) -> Result<RgbImage, ImageError> {
    let directory = Directory::read(bytes).ok_or_else(|| ImageError::Truncated("no directory".to_owned()))?;
    if directory.has_oversized_text(budget) {
        return Err(ImageError::corrupt("a text longer than the image"));
    }
    if let Some(color) = jpeg_color_space(&directory) {
        return decode_jpegs(&directory, header, color, budget);
    }
    let palette = match directory.value(PHOTOMETRIC) {
        Some(PALETTE) => Some(read_palette(&directory)?),
        _ => None,
    };
    // The decoder rejects palettes. It is given a grey image instead, whose values are the indices.
    let bytes =
        if palette.is_some() { Cow::Owned(with_grey_interpretation(&directory)?) } else { Cow::Borrowed(bytes) };
    let mut limits = Limits::default();
    limits.decoding_buffer_size = budget;
    limits.intermediate_buffer_size = budget;
    let mut decoder = Decoder::new(Cursor::new(&*bytes))?.with_limits(limits);
    let (width, height) = decoder.dimensions()?;
    header.check_same_size(width, height)?;
    let color = decoder.colortype()?;
    let mut samples = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut samples)?;
    let data = match palette {
        Some(colors) => {
            let indices = narrow_samples(&samples, color, width, false)?;
            let color = |index: &u8| colors.get(usize::from(*index)).copied().unwrap_or_default();
            indices.iter().flat_map(color).collect()
        }
        None => to_rgb(samples, color, &layout, width)?,
    };
    RgbImage::from_decoder(width, height, data)
}

/// Returns the colour space of a page of interleaved JPEGs; `None` for other pages, and for colour
/// spaces that are left to the `tiff` crate.
fn jpeg_color_space(directory: &Directory<'_>) -> Option<ColorSpace> {
    const SAMPLES: u64 = 277;
    const PLANAR_CONFIGURATION: u64 = 284;
    const JPEG: u64 = 7;
    if directory.value(COMPRESSION) != Some(JPEG) || directory.value(PLANAR_CONFIGURATION).unwrap_or(1) != 1 {
        return None;
    }
    match (directory.value(PHOTOMETRIC)?, directory.value(SAMPLES).unwrap_or(1)) {
        (BLACK_IS_ZERO, 1) => Some(ColorSpace::Grey),
        (2, 3) => Some(ColorSpace::Rgb),
        (6, 3) => Some(ColorSpace::YCbCr),
        _ => None,
    }
}

/// Decodes a page whose strips or tiles are JPEGs, with libjpeg's pixels as in Pillow.
fn decode_jpegs(
    directory: &Directory<'_>,
    header: &Header,
    color: ColorSpace,
    budget: usize,
) -> Result<RgbImage, ImageError> {
    let (width, height) = (u64::from(header.stored_width), u64::from(header.stored_height));
    let missing = || ImageError::corrupt("no strips or tiles");
    let (across, down, offsets, lengths) = match directory.value(TILE_WIDTH) {
        Some(across) => (across, directory.value(TILE_LENGTH).ok_or_else(missing)?, TILE_OFFSETS, TILE_BYTES),
        None => (width, directory.value(ROWS_PER_STRIP).unwrap_or(height).min(height), STRIP_OFFSETS, STRIP_BYTES),
    };
    if across == 0 || down == 0 || across.saturating_mul(down).saturating_mul(32) > budget as u64 {
        return Err(ImageError::corrupt("it needs more memory than its size"));
    }
    let offsets = directory.values(offsets).ok_or_else(missing)?;
    let lengths = directory.values(lengths).ok_or_else(missing)?;
    let tables = directory.find(JPEG_TABLES).and_then(|entry| directory.tiff.slice(entry.at, entry.count));
    // The tables are a JPEG without pixels, whose end marker is dropped.
    let tables = tables.map_or(b"\xff\xd8".as_slice(), |tables| &tables[..tables.len().saturating_sub(2)]);
    let mut data = vec![0; (width * height * 3) as usize];
    let corners =
        (0..height).step_by(down as usize).flat_map(|y| (0..width).step_by(across as usize).map(move |x| (x, y)));
    let mut chunks = offsets.into_iter().zip(lengths);
    for (left, top) in corners {
        let (offset, length) = chunks.next().ok_or_else(missing)?;
        let jpeg = directory.tiff.slice(offset, length);
        let jpeg = jpeg.ok_or_else(|| ImageError::Truncated("a strip or tile lies past the end".to_owned()))?;
        let stream = [tables, jpeg.get(2..).unwrap_or_default(), b"\xff\xd9"].concat();
        let chunk = jpeg::read_header(&stream)?;
        let (columns, rows) = (across.min(width - left), down.min(height - top));
        if u64::from(chunk.stored_width) != across || !(rows..=down).contains(&u64::from(chunk.stored_height)) {
            return Err(ImageError::corrupt("a strip or tile of another size"));
        }
        let pixels = jpeg::decode_embedded(&stream, &chunk, color)?.into_data();
        for (row, line) in pixels.chunks_exact(across as usize * 3).take(rows as usize).enumerate() {
            let start = ((top + row as u64) * width + left) as usize * 3;
            let bytes = columns as usize * 3;
            data[start..start + bytes].copy_from_slice(&line[..bytes]);
        }
    }
    RgbImage::from_decoder(header.stored_width, header.stored_height, data)
}

/// Returns the file with its photometric interpretation changed to grey.
fn with_grey_interpretation(directory: &Directory<'_>) -> Result<Vec<u8>, ImageError> {
    let entry = directory.find(PHOTOMETRIC).ok_or_else(|| ImageError::corrupt("no interpretation"))?;
    let mut bytes = directory.tiff.bytes.to_vec();
    for offset in 0..entry.width {
        let significance = if directory.tiff.big_endian { entry.width - 1 - offset } else { offset };
        bytes[(entry.at + offset) as usize] = (BLACK_IS_ZERO >> (8 * significance)) as u8;
    }
    Ok(bytes)
}

/// Converts decoded samples to RGB.
fn to_rgb(
    samples: DecodingResult,
    color: ColorType,
    layout: &BufferLayoutPreference,
    width: u32,
) -> Result<Vec<u8>, ImageError> {
    let channels = usize::from(color.num_samples());
    if let ColorType::Gray(bits) = color {
        return match bits {
            1..=8 => Ok(grey_to_rgb(narrow_samples(&samples, color, width, true)?.into_iter())),
            _ => deep_grey(samples),
        };
    }
    let bytes = interleave(&high_bytes(samples)?, channels, layout);
    match (color, channels) {
        (ColorType::RGB(8 | 16 | 32 | 64), 3) => Ok(bytes),
        (ColorType::RGBA(8 | 16 | 32 | 64), 4) => Ok(first_three(&bytes, 4)),
        (ColorType::CMYK(8 | 16) | ColorType::CMYKA(8 | 16), 4 | 5) => Ok(cmyk_to_rgb(&bytes, channels)),
        (ColorType::YCbCr(8), 3) => {
            Ok(bytes.chunks_exact(3).flat_map(|pixel| ycbcr_to_rgb(pixel[0], pixel[1], pixel[2])).collect())
        }
        // Grey and alpha.
        (ColorType::GrayA(8 | 16) | ColorType::Multiband { bit_depth: 8 | 16, .. }, 2) => {
            Ok(grey_to_rgb(bytes.iter().step_by(2).copied()))
        }
        _ => Err(ImageError::Unsupported(format!("TIFF with pixels {color:?}"))),
    }
}

/// Unpacks samples of at most 8 bits from rows of whole bytes; `full_scale`: stretched to 0..=255.
fn narrow_samples(
    samples: &DecodingResult,
    color: ColorType,
    width: u32,
    full_scale: bool,
) -> Result<Vec<u8>, ImageError> {
    let unsupported = || ImageError::Unsupported(format!("TIFF with pixels {color:?}"));
    let DecodingResult::U8(packed) = samples else { return Err(unsupported()) };
    let bits = usize::from(color.bit_depth());
    let mask = match bits {
        8 => return Ok(packed.clone()),
        1 | 2 | 4 => (1u8 << bits) - 1,
        _ => return Err(unsupported()),
    };
    let width = width as usize;
    let mut unpacked = Vec::with_capacity(packed.len() * 8 / bits);
    for row in packed.chunks_exact((width * bits).div_ceil(8)) {
        let sample = |x: usize| row[x * bits / 8] >> (8 - bits - x * bits % 8) & mask;
        unpacked.extend((0..width).map(|x| if full_scale { sample(x) * (255 / mask) } else { sample(x) }));
    }
    Ok(unpacked)
}

/// Converts grey samples of more than 8 bits to RGB.
fn deep_grey(samples: DecodingResult) -> Result<Vec<u8>, ImageError> {
    let positive = |value: i64| value.max(0) as u64;
    let floats = |values: Vec<f32>| Ok(grey_to_rgb(float_to_bytes(&values).into_iter()));
    match samples {
        DecodingResult::U16(values) => Ok(deep_grey_to_rgb(values.iter().map(|value| u64::from(*value)))),
        DecodingResult::U32(values) => Ok(deep_grey_to_rgb(values.iter().map(|value| u64::from(*value)))),
        DecodingResult::I16(values) => Ok(deep_grey_to_rgb(values.iter().map(|value| positive(i64::from(*value))))),
        DecodingResult::I32(values) => Ok(deep_grey_to_rgb(values.iter().map(|value| positive(i64::from(*value))))),
        DecodingResult::F16(values) => floats(values.iter().map(|value| value.to_f32()).collect()),
        DecodingResult::F32(values) => floats(values),
        DecodingResult::F64(values) => floats(values.iter().map(|value| *value as f32).collect()),
        _ => Err(ImageError::Unsupported("TIFF with grey samples of this width".to_owned())),
    }
}

/// Reduces each sample to a byte: integers to their high byte, floats by their range.
fn high_bytes(samples: DecodingResult) -> Result<Vec<u8>, ImageError> {
    match samples {
        DecodingResult::U8(values) => Ok(values),
        DecodingResult::U16(values) => Ok(values.iter().map(|value| (value >> 8) as u8).collect()),
        DecodingResult::U32(values) => Ok(values.iter().map(|value| (value >> 24) as u8).collect()),
        DecodingResult::F16(values) => {
            Ok(float_to_bytes(&values.iter().map(|value| value.to_f32()).collect::<Vec<_>>()))
        }
        DecodingResult::F32(values) => Ok(float_to_bytes(&values)),
        DecodingResult::F64(values) => {
            Ok(float_to_bytes(&values.iter().map(|value| *value as f32).collect::<Vec<_>>()))
        }
        _ => Err(ImageError::Unsupported("TIFF with signed colour samples".to_owned())),
    }
}

/// Interleaves planes that are stored one after another; a single plane is returned unchanged.
fn interleave(bytes: &[u8], channels: usize, layout: &BufferLayoutPreference) -> Vec<u8> {
    if layout.planes < 2 {
        return bytes.to_vec();
    }
    let plane = bytes.len() / layout.planes;
    (0..plane).flat_map(|pixel| (0..channels.min(layout.planes)).map(move |band| bytes[band * plane + pixel])).collect()
}

impl From<TiffError> for ImageError {
    fn from(error: TiffError) -> Self {
        match error {
            TiffError::IoError(error) => Self::from_memory_io(&error),
            TiffError::UnsupportedError(error) => Self::Unsupported(error.to_string()),
            TiffError::LimitsExceeded => Self::corrupt("it needs more memory than its size"),
            other => Self::Corrupt(other.to_string()),
        }
    }
}
