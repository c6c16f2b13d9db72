//! Images from Parquet files that other programs wrote (`tests/oracles/foreign_parquet.py`).

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use visplay::tables::import::{ImportError, ImportFile, ImportLimits, ImportedBytes, ImportedImage};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/foreign_parquet")
}

fn expected() -> Value {
    serde_json::from_slice(&fs::read(folder().join("expected.json")).unwrap()).unwrap()
}

fn open(path: &Path) -> ImportFile {
    ImportFile::open(path, None, ImportLimits::default()).unwrap()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.as_bytes().chunks(2).map(digits).collect()
}

fn expected_images(images: &Value, contents: &[Vec<u8>]) -> Vec<ImportedImage> {
    let image = |image: &Value| ImportedImage {
        row: image[0].as_u64().unwrap(),
        item: image[1].as_u64().map(|item| item as usize),
        path: image[2].as_str().map(str::to_owned),
        bytes: image[3].as_u64().map_or(ImportedBytes::Null, |i| ImportedBytes::Bytes(contents[i as usize].clone())),
    };
    images.as_array().unwrap().iter().map(image).collect()
}

#[test]
fn files_of_all_writers_are_read() {
    let expected = expected();
    let contents: Vec<Vec<u8>> =
        expected["contents"].as_array().unwrap().iter().map(|hex| bytes_of(hex.as_str().unwrap())).collect();
    let files = expected["files"].as_object().unwrap();
    assert!(files.len() >= 30);
    for (name, file) in files {
        let images = open(&folder().join(name));
        assert_eq!(images.column(), file["column"].as_str().unwrap(), "{name}");
        let read: Vec<ImportedImage> = images.rows().map(|image| image.unwrap()).collect();
        let expected_images = expected_images(&file["images"], &contents);
        assert_eq!(read, expected_images, "{name}");
        assert_eq!(images.row_count(), expected_images.last().map_or(0, |image| image.row + 1), "{name}");
        let rows = images.row_count();
        for (from, to) in [(0, 1), (1, rows), (rows / 2, rows / 2 + 13), (rows, rows + 5), (3, 3)] {
            let part: Vec<ImportedImage> = images.rows_in(from..to).map(|image| image.unwrap()).collect();
            let wanted_part: Vec<_> =
                expected_images.iter().filter(|image| (from..to).contains(&image.row)).cloned().collect();
            assert_eq!(part, wanted_part, "{name}, rows {from} to {to}");
        }
    }
}

#[test]
fn an_image_over_the_limit_is_reported_by_its_size() {
    let limits = ImportLimits { image_bytes: 100, ..ImportLimits::default() };
    let images = ImportFile::open(&folder().join("pandas.parquet"), None, limits).unwrap();
    let whole: Vec<ImportedImage> = open(&folder().join("pandas.parquet")).rows().map(|image| image.unwrap()).collect();
    let mut large = 0;
    for (image, whole) in images.rows().map(|image| image.unwrap()).zip(whole) {
        let ImportedBytes::Bytes(bytes) = whole.bytes else { panic!("no bytes") };
        if bytes.len() > 100 {
            large += 1;
            assert_eq!(image.bytes, ImportedBytes::TooLarge(bytes.len()));
        } else {
            assert_eq!(image.bytes, ImportedBytes::Bytes(bytes));
        }
    }
    assert!(large > 0);
}

#[test]
fn a_page_over_the_limit_is_an_error_for_every_codec() {
    for codec in ["none", "snappy", "gzip", "brotli", "lz4", "zstd"] {
        let path = folder().join(format!("codec-{codec}-v1.parquet"));
        let limits = ImportLimits { page_bytes: 50, ..ImportLimits::default() };
        let images = ImportFile::open(&path, None, limits).unwrap();
        let error = images.rows().find_map(Result::err).unwrap();
        assert!(matches!(error, ImportError::LargePage { row_group: 0, limit: 50, .. }), "{error}");
    }
}

fn error_of(name: &str, column: Option<&str>) -> String {
    let path = folder().join(name);
    let error = ImportFile::open(&path, column, ImportLimits::default()).err().unwrap().to_string();
    error.replace(path.to_str().unwrap(), "FILE")
}

#[test]
fn the_image_column_can_be_named() {
    let path = folder().join("codec-none-v1.parquet");
    let named = ImportFile::open(&path, Some("image"), ImportLimits::default()).unwrap();
    assert_eq!(named.rows().count(), 28);
    assert_eq!(
        error_of("codec-none-v1.parquet", Some("picture")),
        "FILE: no column `picture`; its columns are: image (struct<bytes: binary?, path: string?>), label (int64)"
    );
    assert_eq!(
        error_of("codec-none-v1.parquet", Some("label")),
        "FILE: column `label` is int64; images are binary, a string (a path), a struct with \
         binary `bytes` or a string `path`, or lists of these"
    );
}

#[test]
fn a_file_that_is_not_parquet_is_an_error() {
    assert!(error_of("expected.json", None).contains("not a Parquet file"));
    assert!(error_of("absent.parquet", None).starts_with("FILE: cannot open"));
    assert!(error_of("", None).contains("not a file"));
}
