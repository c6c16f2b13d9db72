//! Writes sample files that `tests/readers/read_all.py` reads with other programs, comparing all
//! values.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};
use serde::de::DeserializeOwned;
use visplay::ids::{Digest, ImageId};
use visplay::tables::{ImageFile, ImageRow, TableRow, to_bytes};

use super::for_each_table;
use super::samples::{json_rows, rows};

/// Returns the folder of the samples, below cargo's folder for test files.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("table-samples")
}

fn write_sample<R: TableRow + DeserializeOwned>(folder: &Path) {
    for (name, count) in [(R::TABLE.to_owned(), 300), (format!("{}.empty", R::TABLE), 0)] {
        let parquet = to_bytes(rows::<R>(7, count)).unwrap();
        fs::write(folder.join(format!("{name}.parquet")), parquet).unwrap();
        let expected = serde_json::to_string(&json_rows::<R>(7, count)).unwrap();
        fs::write(folder.join(format!("{name}.json")), expected).unwrap();
    }
}

fn photo(number: u8, format: ImageFormat) -> ImageRow {
    let pixels = RgbImage::from_fn(9, 6, |x, y| image::Rgb([number, x as u8 * 20, y as u8 * 30]));
    let mut file = Cursor::new(Vec::new());
    pixels.write_to(&mut file, format).unwrap();
    let bytes = file.into_inner();
    let extension = format.extensions_str()[0];
    ImageRow {
        image_id: ImageId(Digest::of(&bytes)),
        width: 9,
        height: 6,
        format: extension.to_owned(),
        orientation: 1,
        size: bytes.len() as u64,
        perceptual_hash: u64::MAX - u64::from(number),
        source: format!("photos/{number}.{extension}"),
        source_row: None,
        image: ImageFile { bytes, path: format!("{number}.{extension}") },
    }
}

#[test]
fn samples_for_other_readers_are_written() {
    let folder = folder();
    fs::create_dir_all(&folder).unwrap();
    for_each_table!(write_sample, &folder);
    let photos = [(0, ImageFormat::Png), (1, ImageFormat::Bmp), (2, ImageFormat::Png)];
    let photos: Vec<ImageRow> = photos.into_iter().map(|(number, format)| photo(number, format)).collect();
    fs::write(folder.join("photos.json"), serde_json::to_string(&photos).unwrap()).unwrap();
    fs::write(folder.join("photos.parquet"), to_bytes(photos).unwrap()).unwrap();
}
