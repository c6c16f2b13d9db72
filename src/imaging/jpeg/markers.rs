//! Markers and segments of a JPEG file, and the header before the pixels.
//!
//! Source: ITU-T T.81 (1992), annex B.

use std::borrow::Cow;

use crate::imaging::error::ImageError;
use crate::imaging::format::Format;
use crate::imaging::header::Header;
use crate::imaging::orientation::Orientation;

const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

pub(super) const START_OF_SCAN: u8 = 0xda;
pub(super) const END_OF_IMAGE: u8 = 0xd9;

/// A marker and its segment.
pub(super) struct Segment<'a> {
    pub(super) marker: u8,
    pub(super) body: &'a [u8],
    /// Offset from which to search for the next marker.
    pub(super) next: usize,
}

impl Segment<'_> {
    /// Whether the segment is a frame header (SOF0 to SOF15).
    pub(super) fn is_frame(&self) -> bool {
        matches!(self.marker, 0xc0..=0xcf) && !matches!(self.marker, 0xc4 | 0xc8 | 0xcc)
    }
}

/// Finds the marker at or after offset `at`; bytes between segments are skipped, as in libjpeg.
pub(super) fn next_segment(bytes: &[u8], mut at: usize) -> Result<Segment<'_>, ImageError> {
    let cut = || ImageError::Truncated("it ends before its end marker".to_owned());
    loop {
        at += bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0xff)).ok_or_else(cut)?;
        at += bytes[at..].iter().position(|byte| *byte != 0xff).ok_or_else(cut)?;
        let marker = bytes[at];
        at += 1;
        match marker {
            0x00 => {}
            0x01 | 0xd0..=0xd7 | END_OF_IMAGE => return Ok(Segment { marker, body: &[], next: at }),
            0x02..=0xbf | 0xd8 | 0xde | 0xdf | 0xf0..=0xfd | 0xff => {
                return Err(ImageError::Corrupt(format!("a marker ff{marker:02x} where none may be")));
            }
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

/// Reads the size and the orientation.
pub(in crate::imaging) fn read_header(bytes: &[u8]) -> Result<Header, ImageError> {
    let (mut size, mut xmp) = (None, None);
    let mut exif: Option<Cow<'_, [u8]>> = None;
    let mut at = 2;
    loop {
        let segment = next_segment(bytes, at)?;
        match segment.marker {
            0xe1 if segment.body.starts_with(EXIF) => match &mut exif {
                // A block too long for one segment continues in the next.
                Some(block) => block.to_mut().extend_from_slice(&segment.body[EXIF.len()..]),
                None => exif = Some(Cow::Borrowed(segment.body)),
            },
            0xe1 => xmp = segment.body.strip_prefix(XMP).or(xmp),
            _ if segment.is_frame() => {
                let earlier = size.replace(read_size(&segment)?);
                if earlier.is_some() {
                    return Err(ImageError::corrupt("two frames"));
                }
            }
            START_OF_SCAN | END_OF_IMAGE => break,
            _ => {}
        }
        at = segment.next;
    }
    let (width, height) = size.ok_or_else(|| ImageError::corrupt("a scan without a frame"))?;
    let orientation = Orientation::find(exif.as_deref(), xmp);
    Ok(Header { format: Format::Jpeg, stored_width: width, stored_height: height, orientation })
}

/// Reads the size from a frame header, which holds precision, height, width and components.
fn read_size(segment: &Segment<'_>) -> Result<(u32, u32), ImageError> {
    let [precision, height_high, height_low, width_high, width_low, ..] = segment.body else {
        return Err(ImageError::corrupt("a frame header that is too short"));
    };
    if !matches!(segment.marker, 0xc0..=0xc2) {
        let kind = "lossless, arithmetic or hierarchical";
        return Err(ImageError::Unsupported(format!("JPEG of process ff{:02x} ({kind})", segment.marker)));
    }
    if *precision != 8 {
        return Err(ImageError::Unsupported(format!("JPEG with {precision} bits a sample")));
    }
    let width = u16::from_be_bytes([*width_high, *width_low]);
    let height = u16::from_be_bytes([*height_high, *height_low]);
    Ok((u32::from(width), u32::from(height)))
}

/// Checks that the file has an end-of-image marker; without one it is truncated.
pub(super) fn check_end(bytes: &[u8]) -> Result<(), ImageError> {
    if bytes.ends_with(&[0xff, END_OF_IMAGE]) {
        return Ok(());
    }
    let mut at = 2;
    loop {
        let segment = match next_segment(bytes, at) {
            // Damaged pixel data may look like a segment; the decoder deals with that.
            Err(ImageError::Corrupt(_)) => return Ok(()),
            other => other?,
        };
        if segment.marker == END_OF_IMAGE {
            return Ok(());
        }
        at = segment.next;
    }
}
