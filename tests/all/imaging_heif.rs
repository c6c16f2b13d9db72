//! HEIC and AVIF against pillow-heif and Pillow, as frozen by `tests/oracles/imaging_heif.py`. Each
//! format is tested if its cargo feature is on.
#![cfg(any(feature = "avif", feature = "heic"))]

use visplay::imaging::{Limits, OPTIONAL_FORMATS, decode, probe};

use crate::oracle_files::{EncodedImage, fnv, oracle_images};

/// Returns the files of the formats that are read.
pub fn heif_images() -> Vec<EncodedImage> {
    OPTIONAL_FORMATS.iter().flat_map(|format| oracle_images(&format!("imaging-{format}.parquet"))).collect()
}

/// Whether Pillow reads a file that is rejected here: colours multiplied by alpha, and matrices
/// that libyuv does not know.
fn is_rare(name: &str) -> bool {
    let rare = ["multiplied-", "-primaries1-matrix4.avif", "-primaries1-matrix8.avif", "-primaries12-matrix12.avif"];
    name.ends_with(".avif") && !name.contains("-400-") && rare.iter().any(|part| name.contains(part))
}

#[test]
fn pixels_equal_pillows() {
    let images = heif_images();
    assert!(images.len() >= 130 * OPTIONAL_FORMATS.len(), "{}", images.len());
    let mut rejected = 0;
    for EncodedImage { name, bytes, accepted, .. } in images {
        let decoded = decode(&bytes, &Limits::default());
        if is_rare(&name) {
            assert_eq!(decoded.unwrap_err().reason(), "unsupported", "{name}");
            rejected += 1;
            continue;
        }
        let decoded = decoded.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (header, expected) = (decoded.header, accepted.unwrap());
        assert_eq!(probe(&bytes, &Limits::default()).unwrap(), header, "{name}");
        assert!(name.ends_with(header.format.name()), "{name}");
        assert_eq!((header.width(), header.height()), (expected.width, expected.height), "{name}");
        assert_eq!((decoded.pixels.width(), decoded.pixels.height()), (expected.width, expected.height), "{name}");
        assert_eq!(fnv(decoded.pixels.into_data()), expected.pixels, "{name}");
    }
    assert!(rejected <= 46, "{rejected}");
}

/// Sizes beyond the limits are rejected by the boxes alone: the pixel data is missing.
#[test]
fn limits_are_checked_before_decoding() {
    for image in heif_images().into_iter().filter(|image| image.name.starts_with("420-")) {
        let limits = Limits { max_pixels: 63, ..Limits::default() };
        let data = image.bytes.windows(4).position(|kind| kind == b"mdat").unwrap();
        let mut bytes = image.bytes;
        // The rest is an empty box.
        bytes[data..].fill(0);
        bytes[data..data + 4].copy_from_slice(b"mdat");
        let expected = image.accepted.unwrap();
        let is_large = expected.width * expected.height > 63;
        let outcome = probe(&bytes, &limits).map_err(|error| error.reason());
        assert_eq!(outcome.err(), is_large.then_some("bomb"), "{}", image.name);
    }
}

/// A file that ends early is rejected with a reason.
#[test]
fn truncated_files_are_rejected() {
    for image in heif_images().into_iter().step_by(3) {
        for sixteenths in 1..16 {
            let cut = &image.bytes[..image.bytes.len() * sixteenths / 16];
            let error = decode(cut, &Limits::default()).expect_err(&image.name);
            assert!(["truncated", "corrupt"].contains(&error.reason()), "{}: {error}", image.name);
        }
    }
}

/// An item list that would take quadratic time and a place list of extents without bytes are
/// rejected at once.
#[test]
fn huge_lists_are_rejected() {
    let sized = |kind: &[u8], content: &[u8]| [&(8 + content.len() as u32).to_be_bytes(), kind, content].concat();
    let format = OPTIONAL_FORMATS[0].as_bytes();
    let of_meta = |lists: &[u8]| {
        let brands = [format, &[0; 4], b"mif1", format].concat();
        [sized(b"ftyp", &brands), sized(b"meta", &[&[0; 4], lists].concat())].concat()
    };
    let many = [sized(b"iinf", &vec![0; 1 << 16]), sized(b"iloc", &vec![0x44; 1 << 15])].concat();
    let placeless = sized(b"iloc", &[0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    for (lists, problem) in [(many, "too many items"), (placeless, "items without places")] {
        let error = probe(&of_meta(&lists), &Limits::default()).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
}
