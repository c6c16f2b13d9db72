//! Decoding, resizing and hashing against Pillow and imagehash, as frozen by
//! `tests/oracles/imaging.py`.

use std::collections::BTreeMap;

use serde::Deserialize;
use visplay::imaging::{
    DHash, Filter, Format, ImageError, Limits, OPTIONAL_FORMATS, RgbImage, decode, dhash, probe, resize,
};

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
/// last strips with more rows than the image; bitmaps of 16 and 32 bits, of run lengths and of
/// unusual palettes; GIF without a colour table. Files that Pillow rejects are rejected. Names
/// begin with the kind; the files are made by `tests/oracles/imaging_kinds.py`.
#[test]
fn rare_kinds_of_images_equal_pillows() {
    let images = oracle_images("imaging-kinds.parquet");
    let mut compared = BTreeMap::new();
    for image in images {
        let name = &image.name;
        let decoded = decode(&image.bytes, &Limits::default());
        let (kind, _) = name.split_once('/').unwrap();
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
    for (kind, least) in [("tiff-alpha", 150), ("tiff-kinds", 450), ("fax", 150), ("bmp", 300), ("gif", 100)] {
        assert!(compared[kind] >= least, "{compared:?}");
    }
}

/// Formats that are not read are named, with a command that converts them.
#[test]
fn formats_that_are_not_read_are_named() {
    let heif = |brands: &[u8]| [&[0, 0, 0, 8 + brands.len() as u8], b"ftyp".as_slice(), brands, b"....meta"].concat();
    // A directory of one image of 4 bytes.
    let icon = |kind: u8| {
        [&[0, 0, kind, 0, 1, 0, 9, 9, 0, 0, 1, 0, 24, 0, 4, 0, 0, 0, 22, 0, 0, 0], b"....".as_slice()].concat()
    };
    // True colour of 2x1 pixels.
    let tga = |end: &[u8]| [b"\0\0\x02\0\0\0\0\0\0\0\0\0\x02\0\x01\0\x18\0......".as_slice(), end].concat();
    let cases = [
        (heif(b"mif1\0\0\0\0miaf"), "HEIF", "heif-convert FILE.heif FILE.png"),
        (heif(b"crx \0\0\0\0"), "Canon raw", "magick FILE.cr3"),
        (b"\0\0\0\x0cjP  \r\n\x87\n....".to_vec(), "JPEG 2000", "magick FILE.jp2"),
        (b"\xff\x4f\xff\x51\0\0".to_vec(), "JPEG 2000", "magick FILE.j2k"),
        (b"\xff\x0a....".to_vec(), "JPEG XL", "djxl FILE.jxl"),
        (icon(1), "ICO", "magick FILE.ico"),
        (icon(2), "CUR", "magick FILE.cur"),
        (b"8BPS\0\x01".to_vec(), "Photoshop", "magick FILE.psd"),
        (b"DDS |...".to_vec(), "DDS", "magick FILE.dds"),
        (b"qoif\0\0\0\x01".to_vec(), "QOI", "magick FILE.qoi"),
        (b"\x0a\x05\x01\x08....".to_vec(), "PCX", "magick FILE.pcx"),
        (b"P6 2 2 255\n............".to_vec(), "PPM", "magick FILE.ppm"),
        (b"P5\t2 2 255\n....".to_vec(), "PGM", "magick FILE.pgm"),
        (b"P1\r2 2\n0 1 1 0".to_vec(), "PBM", "magick FILE.pbm"),
        (b"\x01\xda\x01\x01\0\x03".to_vec(), "SGI", "magick FILE.sgi"),
        (b"%PDF-1.7..".to_vec(), "PDF", "pdftoppm -png FILE.pdf"),
        (tga(b"\0\0\0\0\0\0\0\0TRUEVISION-XFILE.\0"), "TGA", "magick FILE.tga"),
        (tga(b""), "TGA", "magick FILE.tga"),
        (b"\0\x01\x09\0.... TRUEVISION-XFILE.\0".to_vec(), "TGA", "magick FILE.tga"),
        (b"#define a_width 8\n#define a_height 1\n".to_vec(), "XBM", "magick FILE.xbm"),
        ([b"BM\x1a\0\0\0\0\0\0\0\x1a\0\0\0\x10".as_slice(), &[0; 40]].concat(), "16 bytes", "magick FILE.bmp"),
    ];
    let optional = [
        (
            "heic",
            heif(b"heic\0\0\0\0mif1heic"),
            "HEIC",
            "heif-convert FILE.heic FILE.png; or build visplay with --features heic",
        ),
        ("heic", heif(b"mif1\0\0\0\0mif1heic"), "HEIC", "heif-convert FILE.heic FILE.png"),
        ("heic", heif(b"msf1\0\0\0\0msf1hevc"), "HEIC", "heif-convert FILE.heic FILE.png"),
        (
            "avif",
            heif(b"avif\0\0\0\0mif1miaf"),
            "AVIF",
            "avifdec FILE.avif FILE.png; or build visplay with --features avif",
        ),
        ("avif", heif(b"mif1\0\0\0\0mif1avif"), "AVIF", "avifdec FILE.avif FILE.png"),
        ("avif", heif(b"avis\0\0\0\0"), "AVIF", "avifdec FILE.avif FILE.png"),
    ];
    let not_read = optional.into_iter().filter(|(format, ..)| !OPTIONAL_FORMATS.contains(format));
    let cases = cases.into_iter().chain(not_read.map(|(_, bytes, name, command)| (bytes, name, command)));
    for (bytes, name, command) in cases {
        let error = decode(&bytes, &Limits::default()).unwrap_err();
        let message = error.to_string();
        assert_eq!(error.reason(), "unsupported", "{message}");
        assert!(message.contains(name) && message.contains(command), "{name}: {message}");
    }
    let mut without_images = icon(2);
    without_images[4] = 0;
    let mut past_the_end = icon(1);
    past_the_end.pop();
    let one_pixel_less = &tga(b"")[..21];
    for bytes in [without_images.as_slice(), &past_the_end, one_pixel_less, b"#define LIMIT 8\n#include <a.h>\n"] {
        assert_eq!(decode(bytes, &Limits::default()).unwrap_err().reason(), "not_an_image", "{bytes:?}");
    }
}

/// Samples of 12 or 14 bits in 16 are reported. Samples of 16 bits, those that fit into 8, which
/// are kept as they are, and black images are not.
#[test]
fn images_that_are_reduced_to_dark_are_reported() {
    let is_reported = |bytes: &[u8]| decode(bytes, &Limits::default()).unwrap().is_reduced_to_dark;
    for (values, is_dark) in [
        ([0u16, 100, 1000, 4000, 4095], true),
        ([0, 1, 2, 3, 0x3fff], true),
        ([0, 100, 200, 255, 255], false),
        ([0, 10, 50, 20, 1], false),
        ([0; 5], false),
        ([0, 1, 2, 3, 0xffff], false),
    ] {
        let little: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let grey = [tiff_of_grey(16, 1), little].concat();
        assert_eq!(is_reported(&grey), is_dark, "{values:?}");
        for (color, samples, alpha) in [
            (png::ColorType::Grayscale, 1, false),
            (png::ColorType::GrayscaleAlpha, 1, true),
            (png::ColorType::Rgb, 3, false),
            (png::ColorType::Rgba, 3, true),
        ] {
            let opaque = if alpha { vec![0xffff] } else { vec![] };
            let pixels = values.iter().flat_map(|value| [vec![*value; samples], opaque.clone()].concat());
            let big: Vec<u8> = pixels.clone().flat_map(u16::to_be_bytes).collect();
            assert_eq!(is_reported(&png_of_16_bits(color, &big)), is_dark, "{color:?}: {values:?}");
            if samples == 3 {
                let little: Vec<u8> = pixels.flat_map(u16::to_le_bytes).collect();
                let rgb = [tiff_of_rgb(3 + u32::from(alpha)), little].concat();
                assert_eq!(is_reported(&rgb), is_dark, "TIFF, {color:?}: {values:?}");
            }
        }
    }
    assert!(!is_reported(&file("L-37x29.png")));
}

/// Returns a PNG of 5x1 pixels of 16 bits.
fn png_of_16_bits(color: png::ColorType, samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 5, 1);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Sixteen);
    encoder.write_header().unwrap().write_image_data(samples).unwrap();
    bytes
}

/// Thousands of strips, without the lengths of the compressed ones and with the lowest bit of each
/// byte first, are decoded: none of them copies the rest of the file.
#[test]
fn a_tiff_of_thousands_of_strips_is_decoded() {
    const WIDTH: usize = 1024;
    const STRIPS: usize = 4096;
    let row = |y: usize| (0..WIDTH).map(move |x| (x * 7 + y * 3) as u8);
    let plain: Vec<u8> = (0..STRIPS).flat_map(row).map(u8::reverse_bits).collect();
    let literals = |y: usize| {
        row(y).collect::<Vec<_>>().chunks(128).flat_map(|run| [[127].as_slice(), run].concat()).collect::<Vec<_>>()
    };
    let packed: Vec<u8> = (0..STRIPS).flat_map(literals).map(u8::reverse_bits).collect();
    for (compression, strips) in [(1, plain), (32_773, packed)] {
        let offsets_at = tiff_header_bytes(9);
        let data_at = offsets_at + 4 * STRIPS;
        let stride = strips.len() / STRIPS;
        let mut tiff = tiff_of_tags(&[
            (256, 4, 1, WIDTH as u32),
            (257, 4, 1, STRIPS as u32),
            (258, 3, 1, 8),
            (259, 3, 1, compression),
            (262, 3, 1, 1),
            (266, 3, 1, 2),
            (273, 4, STRIPS as u32, offsets_at as u32),
            (277, 3, 1, 1),
            (278, 3, 1, 1),
        ]);
        tiff.extend((0..STRIPS).flat_map(|strip| ((data_at + strip * stride) as u32).to_le_bytes()));
        tiff.extend(strips);
        let pixels = decode(&tiff, &Limits::default()).unwrap().pixels;
        assert!(pixels.data().iter().step_by(3).copied().eq((0..STRIPS).flat_map(row)), "compression {compression}");
    }
}

/// CIE Lab in planes has the pixels of the same samples stored together, which equal Pillow's.
#[test]
fn planes_of_lab_are_signed() {
    let samples = [[0u8, 0, 0], [255, 128, 127], [100, 200, 30], [77, 5, 250], [180, 60, 140]];
    let planes = [0, 1, 2].map(|band| samples.map(|pixel| pixel[band]));
    let decode_stored = |planar: u32, data: &[u8]| {
        let strips = if planar == 2 { 3 } else { 1 };
        let mut tiff = tiff_of_tags(&[
            (256, 3, 1, 5),
            (257, 3, 1, 1),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (262, 3, 1, 8),
            (273, 4, strips, tiff_header_bytes(9) as u32),
            (277, 3, 1, 3),
            (278, 3, 1, 1),
            (284, 3, 1, planar),
        ]);
        if planar == 2 {
            // The offsets of the planes follow the header.
            let start = tiff.len() as u32 + 12;
            tiff.extend([0, 5, 10].iter().flat_map(|plane| (start + plane).to_le_bytes()));
        }
        tiff.extend(data);
        decode(&tiff, &Limits::default()).unwrap().pixels
    };
    assert_eq!(decode_stored(2, planes.as_flattened()), decode_stored(1, samples.as_flattened()));
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
    assert_eq!(reason(b"\0\0\0\x20ftypcrx \0\0\0\0crx isom"), "unsupported");
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
    tiff_of_tags(&[
        (256, 3, 1, 5),
        (257, 3, 1, 1),
        (258, 3, 1, u32::from(bits)),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, tiff_header_bytes(9) as u32),
        (278, 3, 1, 1),
        (279, 4, 1, 5 * u32::from(bits) / 8),
        (339, 3, 1, u32::from(sample_format)),
    ])
}

/// Returns the header of a TIFF of 5x1 pixels of RGB of 16 bits, and alpha if there are 4 samples,
/// to which the samples are appended.
fn tiff_of_rgb(samples: u32) -> Vec<u8> {
    tiff_of_tags(&[
        (256, 3, 1, 5),
        (257, 3, 1, 1),
        (258, 3, 1, 16),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, tiff_header_bytes(8) as u32),
        (277, 3, 1, samples),
        (278, 3, 1, 1),
    ])
}

/// Returns the size of a TIFF's header and directory of `tags` tags.
fn tiff_header_bytes(tags: usize) -> usize {
    8 + 2 + tags * 12 + 4
}

/// Returns the header and directory of a TIFF: tags, types, numbers of values, and the value or its
/// offset.
fn tiff_of_tags(tags: &[(u16, u16, u32, u32)]) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend((tags.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in tags {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes
}
