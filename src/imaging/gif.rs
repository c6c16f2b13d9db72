//! GIF: the first frame on its canvas, composed as in Pillow; the `gif` crate decodes its indices.

use std::borrow::Cow;
use std::num::NonZeroU64;

use ::gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::error::ImageError;
use super::format::Format;
use super::header::{Header, bytes_at};
use super::rgb::RgbImage;

const EXTENSION: u8 = 0x21;
const IMAGE_DESCRIPTOR: u8 = 0x2c;

/// Reads the size of the canvas, enlarged if the first frame extends past it.
pub(super) fn read_header(bytes: &[u8]) -> Result<Header, ImageError> {
    let short = |at| bytes_at(bytes, at).map(|raw| u32::from(u16::from_le_bytes(raw)));
    let (canvas_width, canvas_height) = (short(6)?, short(8)?);
    let [flags] = bytes_at(bytes, 10)?;
    let mut at = 13 + palette_length(flags);
    loop {
        match bytes_at(bytes, at)? {
            [EXTENSION] => at = skip_blocks(bytes, at + 2)?,
            [IMAGE_DESCRIPTOR] => break,
            [0x3b] => return Err(ImageError::corrupt("no frame before the end")),
            // Stray bytes between blocks are skipped, as other readers do.
            _ => at += 1,
        }
    }
    let (left, top, width, height) = (short(at + 1)?, short(at + 3)?, short(at + 5)?, short(at + 7)?);
    // The last block of pixels may lack its terminator, but must be complete.
    check_frame_data(bytes, at)?;
    if width == 0 || height == 0 {
        return Err(ImageError::ZeroSized { width, height });
    }
    Ok(Header::upright(Format::Gif, canvas_width.max(left + width), canvas_height.max(top + height)))
}

/// Returns the size in bytes of the colour table that these flags announce.
fn palette_length(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// Returns the offset after a chain of sub-blocks and its terminator.
fn skip_blocks(bytes: &[u8], mut at: usize) -> Result<usize, ImageError> {
    loop {
        let [length] = bytes_at(bytes, at)?;
        at += 1 + usize::from(length);
        if length == 0 {
            return Ok(at);
        }
    }
}

/// Checks that the file holds the pixels of the frame at `at`.
fn check_frame_data(bytes: &[u8], at: usize) -> Result<(), ImageError> {
    let [local] = bytes_at(bytes, at + 9)?;
    let mut at = at + 10 + palette_length(local) + 1;
    while let Some(length @ 1..) = bytes.get(at) {
        at += 1 + usize::from(*length);
    }
    if at > bytes.len() {
        return Err(ImageError::Truncated("it ends inside the pixels of its first frame".to_owned()));
    }
    Ok(())
}

/// Decodes the first frame with at most `budget` bytes of memory.
pub(super) fn decode_pixels(bytes: &[u8], header: &Header, budget: usize) -> Result<RgbImage, ImageError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.allow_unknown_blocks(true);
    if let Some(limit) = NonZeroU64::new(budget as u64) {
        options.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    let [flags] = bytes_at(bytes, 10)?;
    let bytes = if flags & 0x80 == 0 { Cow::Owned(with_grey_ramp(bytes, flags)) } else { Cow::Borrowed(bytes) };
    let mut decoder = options.read_info(&*bytes)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder.next_frame_info()?;
    let frame = frame.ok_or_else(|| ImageError::Truncated("no frame".to_owned()))?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (width, height) = (usize::from(frame.width), usize::from(frame.height));
    let background = frame.transparent.unwrap_or(0);
    // Without a colour table, and with one of all greys in order, indices are greys.
    let palette = frame.palette.clone().or(global).filter(|palette| !is_grey_ramp(palette));
    let (canvas_width, canvas_height) = (header.stored_width as usize, header.stored_height as usize);
    if left + width > canvas_width || top + height > canvas_height || width == 0 {
        return Err(ImageError::corrupt("two frame headers that disagree"));
    }
    let mut indices = vec![0; width * height];
    decoder.read_into_buffer(&mut indices)?;

    let color = |index: u8| {
        let Some(palette) = &palette else { return [index; 3] };
        let at = usize::from(index) * 3;
        palette.get(at..at + 3).map_or([0; 3], |rgb| [rgb[0], rgb[1], rgb[2]])
    };
    let colors: Vec<[u8; 3]> = (0..=255).map(color).collect();
    // Outside the frame the canvas has the transparent index, or index 0.
    let mut canvas = vec![colors[usize::from(background)]; canvas_width * canvas_height];
    for (row, line) in indices.chunks_exact(width).enumerate() {
        let start = (top + row) * canvas_width + left;
        for (pixel, index) in canvas[start..start + width].iter_mut().zip(line) {
            *pixel = colors[usize::from(*index)];
        }
    }
    let data = canvas.into_flattened();
    RgbImage::from_decoder(header.stored_width, header.stored_height, data)
}

/// Returns a file without a global colour table with one of all greys in order, since the decoder
/// rejects frames without a table.
fn with_grey_ramp(bytes: &[u8], flags: u8) -> Vec<u8> {
    let ramp: Vec<u8> = (0..=255).flat_map(|grey| [grey; 3]).collect();
    [&bytes[..10], &[flags | 0x87], &bytes[11..13], &ramp, &bytes[13..]].concat()
}

/// Whether each colour is the grey of its index.
fn is_grey_ramp(palette: &[u8]) -> bool {
    palette.chunks_exact(3).zip(0..=255).all(|(color, index)| color == [index; 3])
}

impl From<DecodingError> for ImageError {
    fn from(error: DecodingError) -> Self {
        match error {
            DecodingError::Io(error) => Self::from_memory_io(&error),
            DecodingError::UnexpectedEof => Self::Truncated("the pixel data is cut off".to_owned()),
            DecodingError::MemoryLimit | DecodingError::OutOfMemory => {
                Self::corrupt("it needs more memory than its size")
            }
            other => Self::Corrupt(other.to_string()),
        }
    }
}
