//! PNG: size and orientation are read from the chunks here, the `png` crate decodes the pixels.

use std::io::Cursor;

use super::error::ImageError;
use super::format::Format;
use super::header::{Header, bytes_at};
use super::orientation::Orientation;
use super::rgb::{RgbImage, deep_grey_to_rgb, first_three, grey_to_rgb};

const XMP_KEYWORD: &[u8] = b"XML:com.adobe.xmp\0";
const RAW_EXIF_KEYWORD: &str = "Raw profile type exif";
/// Largest decompressed size, in bytes, of a text chunk that is searched for an orientation.
const MAX_TEXT: usize = 1 << 20;

/// Reads size and orientation.
pub(super) fn read_header(bytes: &[u8]) -> Result<Header, ImageError> {
    if bytes_at(bytes, 12)? != *b"IHDR" {
        return Err(ImageError::corrupt("the first chunk is not IHDR"));
    }
    let width = u32::from_be_bytes(bytes_at(bytes, 16)?);
    let height = u32::from_be_bytes(bytes_at(bytes, 20)?);
    bytes_at::<5>(bytes, 24)?;
    if width > i32::MAX as u32 || height > i32::MAX as u32 {
        return Err(ImageError::Corrupt(format!("{width}x{height} pixels, more than PNG can hold")));
    }
    Ok(Header { format: Format::Png, stored_width: width, stored_height: height, orientation: find_orientation(bytes) })
}

/// Finds the orientation in the EXIF and XMP chunks, which may be in any order.
fn find_orientation(bytes: &[u8]) -> Orientation {
    let (mut exif, mut xmp, mut has_packed_text) = (None, None, false);
    let mut at = 8;
    while let (Ok(length), Ok(kind)) = (bytes_at::<4>(bytes, at), bytes_at::<4>(bytes, at + 4)) {
        let length = u32::from_be_bytes(length) as usize;
        let Some(body) = bytes.get(at + 8..at + 8 + length) else { break };
        match &kind {
            b"eXIf" => exif = Some(body),
            b"iTXt" if body.starts_with(XMP_KEYWORD) => match xmp_text(body) {
                Some(text) => xmp = Some(text),
                None => has_packed_text = true,
            },
            b"tEXt" | b"zTXt" => has_packed_text |= body.starts_with(RAW_EXIF_KEYWORD.as_bytes()),
            b"IEND" => break,
            _ => {}
        }
        at += 12 + length;
    }
    if !has_packed_text {
        return Orientation::find(exif, xmp);
    }
    let (raw_exif, packed_xmp) = unpack_texts(bytes);
    Orientation::find(exif.or(raw_exif.as_deref()), xmp.or(packed_xmp.as_deref()))
}

/// Returns the text of an uncompressed iTXt chunk, which holds keyword, two flags, language,
/// translated keyword and text.
fn xmp_text(body: &[u8]) -> Option<&[u8]> {
    let rest = body.get(XMP_KEYWORD.len()..)?;
    let [0, _, rest @ ..] = rest else { return None };
    let language = rest.iter().position(|byte| *byte == 0)?;
    let rest = &rest[language + 1..];
    let translated = rest.iter().position(|byte| *byte == 0)?;
    Some(&rest[translated + 1..])
}

/// Returns EXIF that older tools stored as hexadecimal text, and compressed XMP.
fn unpack_texts(bytes: &[u8]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let decoder = ::png::Decoder::new_with_limits(Cursor::new(bytes), ::png::Limits { bytes: 8 * MAX_TEXT });
    let Ok(reader) = decoder.read_info() else { return (None, None) };
    let info = reader.info();
    let plain = info.uncompressed_latin1_text.iter().find(|chunk| chunk.keyword == RAW_EXIF_KEYWORD);
    let packed = info.compressed_latin1_text.iter().find(|chunk| chunk.keyword == RAW_EXIF_KEYWORD);
    let raw = plain.map(|chunk| chunk.text.clone()).or_else(|| {
        let mut chunk = packed?.clone();
        chunk.decompress_text_with_limit(MAX_TEXT).ok()?;
        chunk.get_text().ok()
    });
    let xmp = info.utf8_text.iter().find(|chunk| XMP_KEYWORD.starts_with(chunk.keyword.as_bytes())).and_then(|chunk| {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(MAX_TEXT).ok()?;
        chunk.get_text().ok()
    });
    (raw.and_then(|text| from_hexadecimal(&text)), xmp.map(String::into_bytes))
}

/// Parses `\nexif\n    <length>\n<hexadecimal lines>`.
fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        text.split('\n').skip(3).flat_map(str::chars).filter_map(|digit| digit.to_digit(16)).collect();
    (!digits.is_empty()).then(|| digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

/// Decodes the pixels with at most `budget` bytes of memory, and tells whether samples above 255
/// were reduced to their high byte.
pub(super) fn decode_pixels(bytes: &[u8], header: &Header, budget: usize) -> Result<(RgbImage, bool), ImageError> {
    let mut options = ::png::DecodeOptions::default();
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    options.set_skip_ancillary_crc_failures(true);
    let mut decoder = ::png::Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_limits(::png::Limits { bytes: budget });
    decoder.set_transformations(::png::Transformations::EXPAND);
    let mut reader = decoder.read_info()?;
    let (width, height) = (reader.info().width, reader.info().height);
    header.check_same_size(width, height)?;
    let stored = (reader.info().color_type, reader.info().bit_depth);
    let (color, depth) = reader.output_color_type();
    let length = reader.output_buffer_size().filter(|length| *length <= budget);
    let mut samples = vec![0; length.ok_or_else(|| ImageError::corrupt("an impossible size"))?];
    reader.next_frame(&mut samples)?;

    let channels = color.samples();
    let mut is_reduced = false;
    let data = match (depth, color) {
        (::png::BitDepth::Sixteen, _) if stored.0 == ::png::ColorType::Grayscale => {
            let deep = samples.chunks_exact(2 * channels).map(|pixel| u64::from(pixel[0]) << 8 | u64::from(pixel[1]));
            let data;
            (data, is_reduced) = deep_grey_to_rgb(deep);
            data
        }
        (::png::BitDepth::Sixteen, _) => {
            // The high byte of each big-endian sample.
            let high: Vec<u8> = samples.iter().step_by(2).copied().collect();
            let data = if channels < 3 {
                grey_to_rgb(high.iter().step_by(channels).copied())
            } else {
                first_three(&high, channels)
            };
            is_reduced = data.iter().any(|value| *value > 0);
            data
        }
        (_, ::png::ColorType::Rgb) => samples,
        (_, ::png::ColorType::Rgba) => first_three(&samples, 4),
        _ => grey_to_rgb(samples.iter().step_by(channels).copied()),
    };
    Ok((RgbImage::from_decoder(width, height, data)?, is_reduced))
}

impl From<::png::DecodingError> for ImageError {
    fn from(error: ::png::DecodingError) -> Self {
        match error {
            ::png::DecodingError::IoError(error) => Self::from_memory_io(&error),
            ::png::DecodingError::LimitsExceeded => Self::corrupt("it needs more memory than its size"),
            other => Self::Corrupt(other.to_string()),
        }
    }
}
