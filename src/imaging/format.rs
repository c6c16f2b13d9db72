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
    /// HEIF with HEVC; the primary image.
    #[cfg(feature = "heic")]
    Heic,
    /// HEIF with AV1; the primary image.
    #[cfg(feature = "avif")]
    Avif,
}

/// Names of the formats that this build reads because of a cargo feature.
pub const OPTIONAL_FORMATS: &[&str] = &[
    #[cfg(feature = "avif")]
    "avif",
    #[cfg(feature = "heic")]
    "heic",
];

/// Formats that are recognized only to name them in an error: offset, signature, name and suffix.
const UNSUPPORTED: [(usize, &[u8], &str, &str); 37] = [
    (0, b"\xff\x0a", "JPEG XL", "jxl"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL", "jxl"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000", "jp2"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000", "j2k"),
    (0, b"II\xbc\x01", "JPEG XR", "jxr"),
    (0, b"icns", "ICNS", "icns"),
    (0, b"8BPS", "Photoshop", "psd"),
    (0, b"DDS ", "DDS", "dds"),
    (0, b"BLP1", "BLP", "blp"),
    (0, b"BLP2", "BLP", "blp"),
    (0, b"FTEX", "FTEX", "ftu"),
    (0, b"qoif", "QOI", "qoi"),
    (0, b"#?RADIANCE", "Radiance HDR", "hdr"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR", "exr"),
    (0, b"farbfeld", "farbfeld", "ff"),
    (0, b"\x01\xda\0\x01", "SGI", "sgi"),
    (0, b"\x01\xda\x01\x01", "SGI", "sgi"),
    (0, b"\x01\xda\0\x02", "SGI", "sgi"),
    (0, b"\x01\xda\x01\x02", "SGI", "sgi"),
    (0, b"\x59\xa6\x6a\x95", "Sun raster", "ras"),
    (0, b"\x0a\0\x01", "PCX", "pcx"),
    (0, b"\x0a\x02\x01", "PCX", "pcx"),
    (0, b"\x0a\x03\x01", "PCX", "pcx"),
    (0, b"\x0a\x05\x01", "PCX", "pcx"),
    (0, b"\xb1\x68\xde\x3a", "DCX", "dcx"),
    (0, b"DanM", "Windows Paint", "msp"),
    (0, b"LinS", "Windows Paint", "msp"),
    (0, b"SIMPLE  =", "FITS", "fits"),
    (0, b"/* XPM */", "XPM", "xpm"),
    (0, b"BPG\xfb", "BPG", "bpg"),
    (0, b"gimp xcf", "GIMP", "xcf"),
    (0, b"\xd7\xcd\xc6\x9a", "WMF", "wmf"),
    (0, b"%!PS", "PostScript", "eps"),
    (0, b"%PDF-", "PDF", "pdf"),
    (0, b"<svg", "SVG", "svg"),
    (40, b" EMF", "EMF", "emf"),
    (0, b"FUJIFILMCCD-RAW", "Fujifilm raw", "raf"),
];

/// End of most TGA files, which have no signature at their beginning.
const TGA_FOOTER: &[u8] = b"TRUEVISION-XFILE.\0";

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
            #[cfg(feature = "heic")]
            Self::Heic => "heic",
            #[cfg(feature = "avif")]
            Self::Avif => "avif",
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
        if let Some((name, suffix)) = unsupported_format(bytes) {
            return Err(ImageError::unsupported_format(name, suffix));
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
            #[cfg(feature = "heic")]
            _ if iso_media(bytes).is_some_and(|(_, suffix)| suffix == "heic") => Some(Self::Heic),
            #[cfg(feature = "avif")]
            _ if iso_media(bytes).is_some_and(|(_, suffix)| suffix == "avif") => Some(Self::Avif),
            _ => None,
        }
    }
}

/// Returns the name and the suffix of a format that is recognized but not read.
fn unsupported_format(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let is_at = |at: usize, magic: &[u8]| {
        bytes.get(at..).is_some_and(|rest| rest.starts_with(magic)) && bytes.len() > at + magic.len()
    };
    if bytes.ends_with(TGA_FOOTER) {
        return Some(("TGA", "tga"));
    }
    let known = UNSUPPORTED.iter().find(|(at, magic, ..)| is_at(*at, magic)).map(|(.., name, suffix)| (*name, *suffix));
    known.or_else(|| iso_media(bytes)).or_else(|| match bytes {
        [b'P', b'1' | b'4', b' ' | b'\t' | b'\r' | b'\n', ..] => Some(("PBM", "pbm")),
        [b'P', b'2' | b'5', b' ' | b'\t' | b'\r' | b'\n', ..] => Some(("PGM", "pgm")),
        [b'P', b'3' | b'6', b' ' | b'\t' | b'\r' | b'\n', ..] => Some(("PPM", "ppm")),
        [b'P', b'f' | b'F', b' ' | b'\t' | b'\r' | b'\n', ..] => Some(("PFM", "pfm")),
        [b'P', b'7', b'\n', ..] => Some(("PAM", "pam")),
        [0, 0, 1, 0, ..] if has_icon_directory(bytes) => Some(("ICO", "ico")),
        [0, 0, 2, 0, ..] if has_icon_directory(bytes) => Some(("CUR", "cur")),
        _ if has_tga_header(bytes) => Some(("TGA", "tga")),
        _ if has_xbm_width(bytes) => Some(("XBM", "xbm")),
        _ => None,
    })
}

/// Whether an ICO or CUR has a first image within the file. The reserved byte is 0, or 255 in files
/// that .NET writes.
fn has_icon_directory(bytes: &[u8]) -> bool {
    let [_, _, _, _, low, high, _, _, _, 0 | 255, _, _, _, _, entry @ ..] = bytes else { return false };
    let [s0, s1, s2, s3, o0, o1, o2, o3, ..] = *entry else { return false };
    let directory = 6 + 16 * u64::from(u16::from_le_bytes([*low, *high]));
    let size = u64::from(u32::from_le_bytes([s0, s1, s2, s3]));
    let offset = u64::from(u32::from_le_bytes([o0, o1, o2, o3]));
    directory > 6 && size > 0 && offset >= directory && offset + size <= bytes.len() as u64
}

/// Whether the bytes are an uncompressed TGA without a footer, of true colour or grey: no palette,
/// a possible depth, and at least the pixels that the header declares.
fn has_tga_header(bytes: &[u8]) -> bool {
    let [id, 0, kind @ (2 | 3), 0, 0, 0, 0, 0, _, _, _, _, w0, w1, h0, h1, bits, flags, ..] = *bytes else {
        return false;
    };
    let pixels = u64::from(u16::from_le_bytes([w0, w1])) * u64::from(u16::from_le_bytes([h0, h1]));
    let is_depth = matches!((kind, bits), (2, 16 | 24 | 32) | (3, 8 | 16));
    let length = 18 + u64::from(id) + pixels * u64::from(bits / 8);
    is_depth && flags & 0xc0 == 0 && pixels > 0 && length <= bytes.len() as u64
}

/// Whether C definitions begin the file, one of the first three with the width of an X bitmap.
fn has_xbm_width(bytes: &[u8]) -> bool {
    let is_width = |line: &[u8]| line.windows(7).any(|word| word == b"_width " || word == b"_width\t");
    let mut lines = bytes[..bytes.len().min(512)].split(|byte| matches!(byte, b'\n' | b'\r')).take(3);
    bytes.starts_with(b"#define ") && lines.any(|line| line.starts_with(b"#define ") && is_width(line))
}

/// Returns the format of an image in an ISO media file (HEIF, AVIF, raw photos), by the brands that
/// its first box names: the major brand, a version, and the compatible brands.
fn iso_media(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let length = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    if bytes.get(4..8)? != b"ftyp" {
        return None;
    }
    let brands = bytes.get(8..length.clamp(8, bytes.len().min(512)))?;
    let of_brand = |brand: &[u8]| match brand {
        b"avif" | b"avis" => Some(("AVIF", "avif")),
        b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"hevm" | b"hevs" => Some(("HEIC", "heic")),
        b"crx " => Some(("Canon raw", "cr3")),
        b"jxl " => Some(("JPEG XL", "jxl")),
        b"jp2 " | b"jpx " => Some(("JPEG 2000", "jp2")),
        _ => None,
    };
    let is_heif = |brand: &[u8]| matches!(brand, b"mif1" | b"mif2" | b"msf1" | b"miaf");
    let mut named = brands.chunks_exact(4);
    named.find_map(of_brand).or_else(|| brands.chunks_exact(4).any(is_heif).then_some(("HEIF", "heif")))
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
        let message = |bytes: &[u8]| Format::sniff(bytes).unwrap_err().to_string();
        assert!(message(b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf..").contains("heif-convert FILE.heif FILE.png"));
        let heic = Format::sniff(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic..");
        assert!(heic.map_or_else(|error| error.to_string().contains("HEIC"), |heic| heic.name() == "heic"));
        assert_eq!(Format::sniff(b"hello, world").unwrap_err().reason(), "not_an_image");
        assert_eq!(Format::sniff(&[0]).unwrap_err().reason(), "not_an_image");
    }
}
