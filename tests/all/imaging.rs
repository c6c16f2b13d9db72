//! Decoding, resizing and hashing against Pillow and imagehash, as frozen by
//! `tests/oracles/imaging.py`.

use std::collections::BTreeMap;

use serde::Deserialize;
use visplay::imaging::{DHash, Filter, Format, ImageError, Limits, RgbImage, decode, dhash, probe, resize};

use crate::oracle_files::{encoded_images, fnv, json_lines, oracle_images, pattern};

#[test]
fn decoded_pixels_equal_pillows() {
    let images = encoded_images();
    assert!(images.len() > 400, "{}", images.len());
    for image in images {
        let decoded = decode(&image.bytes, &Limits::default());
        let (name, Some(expected)) = (&image.name, &image.accepted) else {
            assert!(decoded.is_err(), "{}: Pillow rejects this file", image.name);
            continue;
        };
        let decoded = decoded.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (header, pixels) = (decoded.header, decoded.pixels);
        assert_eq!((pixels.width(), pixels.height()), (expected.width, expected.height), "{name}");
        assert_eq!((header.width(), header.height()), (expected.width, expected.height), "{name}");
        assert_eq!(dhash(&pixels).to_string(), expected.dhash, "{name}");
        assert_eq!(fnv(pixels.into_data()), expected.pixels, "{name}");
        let suffix = header.format.name().replace("jpeg", "jpg").replace("tiff", "tif");
        assert!(name.ends_with(&suffix), "{name}: {suffix}");
    }
}

/// Rare kinds of images: TIFF with multiplied alpha, of every compression and bit depth, and faxes;
/// bitmaps of 16 and 32 bits, of run lengths and of unusual palettes; GIF without a colour table.
/// Files that Pillow rejects are rejected. Names begin with the kind; the files are made by
/// `tests/oracles/imaging_kinds.py`.
#[test]
fn rare_kinds_of_images_equal_pillows() {
    let images = oracle_images("imaging-kinds.parquet");
    let mut compared = BTreeMap::new();
    for image in images {
        let name = &image.name;
        let decoded = decode(&image.bytes, &Limits::default());
        let (kind, file) = name.split_once('/').unwrap();
        if file.starts_with("lab-") {
            assert!(decoded.unwrap_err().to_string().contains("convert it first"), "{name}");
            continue;
        }
        match &image.accepted {
            None => assert!(decoded.is_err(), "{name}: Pillow rejects this file"),
            Some(expected) => {
                let pixels = decoded.unwrap_or_else(|error| panic!("{name}: {error}")).pixels;
                assert_eq!((pixels.width(), pixels.height()), (expected.width, expected.height), "{name}");
                assert_eq!(fnv(pixels.into_data()), expected.pixels, "{name}");
                *compared.entry(kind.to_owned()).or_insert(0) += 1;
            }
        }
    }
    for (kind, least) in [("tiff-alpha", 150), ("tiff-kinds", 400), ("fax", 150), ("bmp", 300), ("gif", 100)] {
        assert!(compared[kind] >= least, "{compared:?}");
    }
}

/// Formats that are not read are named, with a command that converts them.
#[test]
fn formats_that_are_not_read_are_named() {
    let heif = |brands: &[u8]| [&[0, 0, 0, 8 + brands.len() as u8], b"ftyp".as_slice(), brands, b"....meta"].concat();
    let cases: [(Vec<u8>, &str, &str); 22] = [
        (heif(b"heic\0\0\0\0mif1heic"), "HEIC", "heif-convert FILE.heic FILE.png"),
        (heif(b"mif1\0\0\0\0mif1heic"), "HEIC", "heif-convert FILE.heic FILE.png"),
        (heif(b"msf1\0\0\0\0msf1hevc"), "HEIC", "heif-convert FILE.heic FILE.png"),
        (heif(b"avif\0\0\0\0mif1miaf"), "AVIF", "avifdec FILE.avif FILE.png"),
        (heif(b"mif1\0\0\0\0mif1avif"), "AVIF", "avifdec FILE.avif FILE.png"),
        (heif(b"avis\0\0\0\0"), "AVIF", "avifdec FILE.avif FILE.png"),
        (heif(b"mif1\0\0\0\0miaf"), "HEIF", "heif-convert FILE.heif FILE.png"),
        (heif(b"crx \0\0\0\0"), "Canon raw", "magick FILE.cr3"),
        (b"\0\0\0\x0cjP  \r\n\x87\n....".to_vec(), "JPEG 2000", "magick FILE.jp2"),
        (b"\xff\x4f\xff\x51\0\0".to_vec(), "JPEG 2000", "magick FILE.j2k"),
        (b"\xff\x0a....".to_vec(), "JPEG XL", "djxl FILE.jxl"),
        (b"\0\0\x01\0\x01\0".to_vec(), "ICO", "magick FILE.ico"),
        (b"8BPS\0\x01".to_vec(), "Photoshop", "magick FILE.psd"),
        (b"DDS |...".to_vec(), "DDS", "magick FILE.dds"),
        (b"qoif\0\0\0\x01".to_vec(), "QOI", "magick FILE.qoi"),
        (b"\x0a\x05\x01\x08....".to_vec(), "PCX", "magick FILE.pcx"),
        (b"P6 2 2 255\n............".to_vec(), "PPM", "magick FILE.ppm"),
        (b"P5\t2 2 255\n....".to_vec(), "PGM", "magick FILE.pgm"),
        (b"P1\r2 2\n0 1 1 0".to_vec(), "PBM", "magick FILE.pbm"),
        (b"\x01\xda\x01\x01\0\x03".to_vec(), "SGI", "magick FILE.sgi"),
        (b"%PDF-1.7..".to_vec(), "PDF", "pdftoppm -png FILE.pdf"),
        (b"\0\0\x02\0.... TRUEVISION-XFILE.\0".to_vec(), "CUR", "magick"),
    ];
    for (bytes, name, command) in cases {
        let error = decode(&bytes, &Limits::default()).unwrap_err();
        let message = error.to_string();
        assert_eq!(error.reason(), "unsupported", "{message}");
        assert!(message.contains(name) && message.contains(command), "{name}: {message}");
    }
}

/// Samples of 12 bits in 16 are reported; samples of 8 and of 16 bits are not.
#[test]
fn dark_deep_grey_is_reported() {
    for (values, is_dark) in [([0u16, 100, 1000, 4000, 4095], true), ([0, 1, 2, 3, 0x3fff], true)]
        .into_iter()
        .chain([([0, 100, 200, 255, 255], false), ([0, 1, 2, 3, 0xffff], false)])
    {
        let mut tiff = tiff_of_grey(16, 1);
        tiff.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        assert_eq!(decode(&tiff, &Limits::default()).unwrap().is_dark_deep_grey, is_dark, "{values:?}");
    }
    assert!(!decode(&file("L-37x29.png"), &Limits::default()).unwrap().is_dark_deep_grey);
}

/// A file counts as truncated if Pillow says so, and also if only the part after the pixels is
/// missing: the end chunk of a PNG, the end marker of a JPEG, the padding of a bitmap's last row.
#[test]
fn truncated_files_are_recognised() {
    let mut cut = 0;
    for image in encoded_images() {
        let decode_cut = |length: &u32| decode(&image.bytes[..*length as usize], &Limits::default());
        for length in &image.cut_refused {
            let error = decode_cut(length).expect_err(&image.name);
            let is_short = ["empty", "not_an_image"].contains(&error.reason()) && *length < 18;
            let is_between_blocks = image.name.ends_with("gif") && error.reason() == "corrupt";
            assert!(
                is_short || is_between_blocks || error.reason() == "truncated",
                "{} cut to {length}: {error}",
                image.name
            );
            cut += 1;
        }
        for length in &image.cut_accepted {
            match decode_cut(length) {
                Ok(_) => {}
                Err(ImageError::Truncated(_)) if image.name.ends_with("png") => {
                    assert!(!image.bytes[..*length as usize].ends_with(b"IEND"), "{} cut to {length}", image.name);
                }
                Err(ImageError::Truncated(_)) if image.name.ends_with("jpg") || image.name.ends_with("bmp") => {
                    assert!(image.bytes.len() - *length as usize <= 3, "{} cut to {length}", image.name);
                }
                Err(error) => panic!("{} cut to {length}: {error}", image.name),
            }
        }
    }
    assert!(cut > 1000, "{cut}");
}

/// Incomplete progressive JPEGs are smoothed, damaged ones saturate and wrap around, and those
/// inside a TIFF are upsampled exactly as in Pillow 13. The hashes are those of Pillow's pixels.
#[test]
fn incomplete_damaged_and_embedded_jpegs_have_pillows_pixels() {
    let cases = [
        ("progressive-dc-only.jpg", "e9da2da27bfdfbaf"),
        ("progressive-dc-unrefined.jpg", "493656c6184d48af"),
        ("progressive-two-blocks-wide.jpg", "e397ad5eaa0be4db"),
        ("damaged-1.jpg", "34d3b1ac1091960b"),
        ("damaged-2.jpg", "57a6dc2cb1280b21"),
        ("damaged-3.jpg", "3783bb76887a8795"),
        ("damaged-4.jpg", "fdb6a88b7b4e4ed5"),
        ("rgb-in-tiff.tif", "22a0493987faf91a"),
        ("ycbcr-in-tiff.tif", "7693754d235f57e8"),
    ];
    for (name, pixels) in cases {
        let path = format!("{}/tests/data/jpeg/{name}", env!("CARGO_MANIFEST_DIR"));
        let decoded = decode(&std::fs::read(path).unwrap(), &Limits::default()).unwrap();
        assert_eq!(fnv(decoded.pixels.into_data()), pixels, "{name}");
    }
}

#[derive(Deserialize)]
struct ResizeCase {
    kind: String,
    seed: u64,
    channels: usize,
    filter: String,
    from: (u32, u32),
    to: (u32, u32),
    pixels: String,
}

#[test]
fn resizing_equals_pillow_bit_for_bit() {
    let rows: Vec<ResizeCase> = json_lines("imaging-resize.jsonl", |line| line.contains("\"filter\""));
    assert_eq!(rows.len(), 300);
    for row in rows {
        let (width, height) = row.from;
        let data = pattern(&row.kind, row.seed, width as usize, height as usize, row.channels);
        let filter = if row.filter == "bicubic" { Filter::Bicubic } else { Filter::Lanczos3 };
        // Grey is resized as three equal channels.
        let repeated = 3 / row.channels;
        let data = data.into_iter().flat_map(|value| std::iter::repeat_n(value, repeated)).collect();
        let resized = resize(&RgbImage::new(width, height, data).unwrap(), row.to.0, row.to.1, filter).into_data();
        assert_eq!(
            fnv(resized.into_iter().step_by(repeated)),
            row.pixels,
            "seed {}: {:?} to {:?}, {filter:?}",
            row.seed,
            row.from,
            row.to
        );
    }
}

#[derive(Deserialize)]
struct HashCase {
    kind: String,
    seed: u64,
    from: (u32, u32),
    dhash: String,
}

#[test]
fn dhash_equals_imagehash() {
    let rows: Vec<HashCase> = json_lines("imaging-resize.jsonl", |line| line.contains("\"dhash\""));
    assert_eq!(rows.len(), 300);
    for row in rows {
        let (width, height) = row.from;
        let data = pattern(&row.kind, row.seed, width as usize, height as usize, 3);
        let hash = dhash(&RgbImage::new(width, height, data).unwrap());
        assert_eq!(hash.to_string(), row.dhash, "{} {}: {width}x{height}", row.kind, row.seed);
        assert_eq!(row.dhash.parse::<DHash>().unwrap(), hash);
    }
}

fn file(name: &str) -> Vec<u8> {
    encoded_images().into_iter().find(|image| image.name == name).unwrap().bytes
}

#[test]
fn limits_are_checked_before_decoding() {
    // The header declares 65000x65000 pixels, for which there is no data.
    let mut png = file("RGB-37x29.png");
    png[16..24].copy_from_slice(&[0, 0, 0xfd, 0xe8, 0, 0, 0xfd, 0xe8]);
    let error = decode(&png, &Limits::default()).unwrap_err();
    assert_eq!(error.reason(), "bomb");
    assert!(error.to_string().contains("65000x65000"), "{error}");
    let small = Limits { max_bytes: 1000, ..Limits::default() };
    assert_eq!(decode(&png, &small).unwrap_err().reason(), "too_large");
    let square = Limits { max_aspect_ratio: 16, ..Limits::default() };
    assert_eq!(probe(&file("RGB-3x50.png"), &square).unwrap_err().reason(), "aspect_ratio");
}

#[test]
fn a_probe_reads_format_size_and_orientation() {
    let header = probe(&file("exif6.jpg"), &Limits::default()).unwrap();
    assert_eq!((header.format, header.orientation.tag()), (Format::Jpeg, 6));
    assert_eq!((header.stored_width, header.stored_height), (21, 13));
    assert_eq!((header.width(), header.height()), (13, 21));
}

#[test]
fn files_of_other_kinds_have_a_reason() {
    let reason = |bytes: &[u8]| decode(bytes, &Limits::default()).unwrap_err().reason();
    assert_eq!(reason(b""), "empty");
    assert_eq!(reason(b"<html><body>not found</body></html>"), "not_an_image");
    assert_eq!(reason(b"\0\0\0\x20ftypavif\0\0\0\0avifmif1"), "unsupported");
    let mut arithmetic = file("q75-s2-37x29.jpg");
    let frame = arithmetic.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    arithmetic[frame + 1] = 0xc9;
    assert_eq!(reason(&arithmetic), "unsupported");
}

/// Grey of 16 bits that does not fit into 8 bits is reduced to the high byte, where Pillow gives
/// white.
#[test]
fn deep_grey_is_reduced_to_its_high_byte() {
    let mut deep = tiff_of_grey(16, 1);
    let values = [0u16, 0x0100, 0x7fff, 0x8000, 0xffff];
    deep.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    let decoded = decode(&deep, &Limits::default()).unwrap();
    assert_eq!(decoded.pixels.data(), [0u8, 1, 0x7f, 0x80, 0xff].map(|value| [value; 3]).as_flattened());

    let mut unit = tiff_of_grey(32, 3);
    unit.extend([0.0f32, 0.25, 0.5, 1.0, -1.0].iter().flat_map(|value| value.to_le_bytes()));
    let decoded = decode(&unit, &Limits::default()).unwrap();
    assert_eq!(decoded.pixels.data(), [0u8, 63, 127, 255, 0].map(|value| [value; 3]).as_flattened());
}

/// Returns the header of a TIFF of 5x1 grey samples, to which the samples are appended.
pub fn tiff_of_grey(bits: u16, sample_format: u16) -> Vec<u8> {
    const DIRECTORY: u32 = 8;
    let tags: [(u16, u16, u32); 9] = [
        (256, 3, 5),
        (257, 3, 1),
        (258, 3, u32::from(bits)),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, DIRECTORY + 2 + 9 * 12 + 4),
        (278, 3, 1),
        (279, 4, 5 * u32::from(bits) / 8),
        (339, 3, u32::from(sample_format)),
    ];
    let mut bytes = b"II*\0".to_vec();
    bytes.extend(DIRECTORY.to_le_bytes());
    bytes.extend((tags.len() as u16).to_le_bytes());
    for (tag, kind, value) in tags {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes
}
