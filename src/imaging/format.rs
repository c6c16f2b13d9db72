//! The supported image formats, recognized by content and never by a file's name.

use super::error::ImageError;

/// An image format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Portable Network Graphics; the default image of an animation.
    Png,
    /// JPEG: baseline and progressive; grey, colour and CMYK.
    Jpeg,
    /// WebP, lossy and lossless; the first frame of an animation.
    WebP,
    /// GIF; the first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF and BigTIFF; the first page.
    Tiff,
}

/// Formats that are recognized only to name them in an error: offset, signature and name.
const UNSUPPORTED: [(usize, &[u8], &str); 24] = [
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypheix", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\x01\0", "ICO"),
    (0, b"\0\0\x02\0", "CUR"),
    (0, b"8BPS", "Photoshop"),
    (0, b"DDS ", "DDS"),
    (0, b"qoif", "QOI"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"farbfeld", "farbfeld"),
    (0, b"P4\n", "PBM"),
    (0, b"P5\n", "PGM"),
    (0, b"P6\n", "PPM"),
    (0, b"P7\n", "PAM"),
    (0, b"%PDF-", "PDF"),
    (0, b"<svg", "SVG"),
];

const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

impl Format {
    /// Returns the format's name as it is stored in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::WebP => "webp",
            Self::Gif => "gif",
            Self::Bmp => "bmp",
            Self::Tiff => "tiff",
        }
    }

    /// Recognises the format by the first bytes of a file.
    ///
    /// # Errors
    /// `empty` for no bytes, `unsupported` for an image format that is not read, `truncated` for a
    /// file that ends inside its signature, `not_an_image` for anything else.
    pub fn sniff(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        if let Some(format) = Self::from_signature(bytes) {
            return Ok(format);
        }
        if let Some((_, _, name)) = UNSUPPORTED.iter().find(|(at, magic, _)| {
            bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic) && bytes.len() > at + magic.len())
        }) {
            return Err(ImageError::Unsupported(format!("{name} images are not read")));
        }
        if ends_in_signature(bytes) {
            return Err(ImageError::Truncated(format!("{} bytes, less than a signature", bytes.len())));
        }
        let head: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Err(ImageError::NotAnImage(format!("it begins with {}", head.join(" "))))
    }

    fn from_signature(bytes: &[u8]) -> Option<Self> {
        match bytes {
            _ if bytes.starts_with(PNG_SIGNATURE) => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Self::Tiff),
            [b'B', b'M', ..] if has_bitmap_header(bytes) => Some(Self::Bmp),
            _ => None,
        }
    }
}

/// Whether a known header size follows "BM", which many texts begin with.
fn has_bitmap_header(bytes: &[u8]) -> bool {
    matches!(bytes.get(14..18), Some([12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]))
}

/// Whether the bytes end inside a signature; at least three bytes must match.
fn ends_in_signature(bytes: &[u8]) -> bool {
    let cut = |signature: &[u8]| bytes.len() >= 3 && bytes.len() < signature.len() && signature.starts_with(bytes);
    let riff =
        bytes.len() < 12 && bytes.starts_with(b"RIFF") && b"WEBP".starts_with(bytes.get(8..).unwrap_or_default());
    let bitmap = bytes.len() < 18
        && bytes.starts_with(b"BM")
        && bytes.get(6..10).is_some_and(|reserved| reserved == [0; 4])
        && bytes.get(2..6).is_some_and(|size| u32::from_le_bytes([size[0], size[1], size[2], size[3]]) > 18);
    cut(PNG_SIGNATURE) || cut(b"GIF89a") || cut(b"GIF87a") || cut(b"II*\0") || cut(b"MM\0*") || riff || bitmap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides() {
        assert_eq!(Format::sniff(b"\xff\xd8\xff\xe0rest").unwrap(), Format::Jpeg);
        assert_eq!(Format::sniff(b"GIF89a....").unwrap(), Format::Gif);
        assert_eq!(Format::sniff(b"").unwrap_err().reason(), "empty");
        assert_eq!(Format::sniff(b"BMW is a maker of cars, not a bitmap").unwrap_err().reason(), "not_an_image");
        assert_eq!(Format::sniff(b"\x89PNG\r").unwrap_err().reason(), "truncated");
        assert_eq!(Format::sniff(b"qoif\0\0\0\x01").unwrap_err().reason(), "unsupported");
        assert_eq!(Format::sniff(b"hello, world").unwrap_err().reason(), "not_an_image");
        assert_eq!(Format::sniff(&[0]).unwrap_err().reason(), "not_an_image");
    }
}
