//! JPEG: its markers walked for size, kind, orientation and the end of image, its pixels by the `image` crate.

use std::borrow::Cow;
use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;
use image::{ColorType, ImageDecoder};

use super::decode::from_image;
use super::error::ImageError;
use super::header::{Claim, Header};
use super::orientation::Orientation;
use super::rgb::{RgbImage, grey_to_rgb};

const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// A marker and the segment behind it.
struct Segment<'a> {
    marker: u8,
    body: &'a [u8],
    /// Where the next one is looked for.
    next: usize,
}

/// The marker at or after `at`, bytes between segments being skipped as libjpeg does.
fn next_segment(bytes: &[u8], mut at: usize) -> Result<Segment<'_>, ImageError> {
    let cut = || ImageError::Truncated("it ends before its end marker".to_owned());
    loop {
        at += bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0xff)).ok_or_else(cut)?;
        at += bytes[at..].iter().position(|byte| *byte != 0xff).ok_or_else(cut)?;
        let marker = bytes[at];
        at += 1;
        match marker {
            0x00 => {}
            0x01 | 0xd0..=0xd8 | END_OF_IMAGE => return Ok(Segment { marker, body: &[], next: at }),
            _ => {
                let length = bytes.get(at..at + 2).ok_or_else(cut)?;
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                if length < 2 {
                    return Err(ImageError::Corrupt(format!("marker ff{marker:02x} of length {length}")));
                }
                let body = bytes.get(at + 2..at + length).ok_or_else(cut)?;
                return Ok(Segment { marker, body, next: at + length });
            }
        }
    }
}

pub(super) fn read_header(bytes: &[u8]) -> Result<Claim, ImageError> {
    let (mut size, mut xmp) = (None, None);
    let mut exif: Option<Cow<'_, [u8]>> = None;
    let mut at = 2;
    loop {
        let Segment { marker, body, next } = next_segment(bytes, at)?;
        match marker {
            0xe1 if body.starts_with(EXIF) => match &mut exif {
                // a block too long for one segment goes on in the next
                Some(block) => block.to_mut().extend_from_slice(&body[EXIF.len()..]),
                None => exif = Some(Cow::Borrowed(body)),
            },
            0xe1 => xmp = body.strip_prefix(XMP).or(xmp),
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let frame = read_frame(marker, body)?;
                if size.replace(frame).is_some_and(|first| first != frame) {
                    return Err(ImageError::Corrupt("two frames of different sizes".to_owned()));
                }
            }
            START_OF_SCAN | END_OF_IMAGE => break,
            _ => {}
        }
        at = next;
    }
    let (width, height) = size.ok_or_else(|| ImageError::Corrupt("a scan without a frame".to_owned()))?;
    Ok((width, height, Orientation::find(exif.as_deref(), xmp)))
}

/// Start of frame: precision, height, width, components.
fn read_frame(marker: u8, body: &[u8]) -> Result<(u32, u32), ImageError> {
    let [precision, height_high, height_low, width_high, width_low, ..] = body else {
        return Err(ImageError::Corrupt("a frame header that is too short".to_owned()));
    };
    if !matches!(marker, 0xc0..=0xc2) {
        return Err(ImageError::Unsupported(format!(
            "JPEG of process ff{marker:02x} (lossless, arithmetic, hierarchical)"
        )));
    }
    if *precision != 8 {
        return Err(ImageError::Unsupported(format!("JPEG with {precision} bits a sample")));
    }
    let width = u16::from_be_bytes([*width_high, *width_low]);
    let height = u16::from_be_bytes([*height_high, *height_low]);
    Ok((u32::from(width), u32::from(height)))
}

/// Walks to the end-of-image marker: the decoder would fill in what is missing without a word.
fn check_end(bytes: &[u8]) -> Result<(), ImageError> {
    if bytes.ends_with(&[0xff, END_OF_IMAGE]) {
        return Ok(());
    }
    let mut at = 2;
    loop {
        let segment = match next_segment(bytes, at) {
            // entropy-coded data may hold what looks like a segment only if it is damaged; the decoder judges that
            Err(ImageError::Corrupt(_)) => return Ok(()),
            other => other?,
        };
        if segment.marker == END_OF_IMAGE {
            return Ok(());
        }
        at = segment.next;
    }
}

pub(super) fn decode_pixels(bytes: &[u8], header: &Header) -> Result<RgbImage, ImageError> {
    check_end(bytes)?;
    let decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(from_image)?;
    let (width, height) = decoder.dimensions();
    if (width, height) != (header.stored_width, header.stored_height) {
        return Err(ImageError::Corrupt("two headers that disagree".to_owned()));
    }
    let color = decoder.color_type();
    let mut samples = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut samples).map_err(from_image)?;
    let data = match color {
        ColorType::L8 => grey_to_rgb(samples.iter().copied()),
        ColorType::Rgb8 => samples,
        other => return Err(ImageError::Unsupported(format!("JPEG with pixels {other:?}"))),
    };
    RgbImage::new(width, height, data).ok_or_else(|| ImageError::Corrupt("pixels and size disagree".to_owned()))
}
