//! Readers of the frozen reference results in `tests/oracles/`, and the test patterns of their
//! scripts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::de::DeserializeOwned;

/// Returns the path of an oracle file.
pub fn oracle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles").join(name)
}

/// Returns the rows of a JSON Lines file whose lines satisfy `keep`.
pub fn json_lines<T: DeserializeOwned>(name: &str, keep: impl Fn(&str) -> bool) -> Vec<T> {
    let text = fs::read_to_string(oracle(name)).unwrap();
    text.lines().filter(|line| keep(line)).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An encoded file, and how Pillow decodes it.
pub struct EncodedImage {
    pub name: String,
    pub bytes: Vec<u8>,
    /// `None` if Pillow rejects the file.
    pub accepted: Option<PillowImage>,
    /// Lengths at which Pillow accepts the truncated file.
    pub cut_accepted: Vec<u32>,
    /// Lengths at which Pillow rejects the truncated file.
    pub cut_refused: Vec<u32>,
}

/// An image as decoded by Pillow.
pub struct PillowImage {
    pub width: u32,
    pub height: u32,
    pub pixels: String,
    pub dhash: String,
}

/// Returns all rows of `imaging-decode.parquet`.
pub fn encoded_images() -> Vec<EncodedImage> {
    oracle_images("imaging-decode.parquet")
}

/// Returns all rows of a Parquet file of encoded images.
pub fn oracle_images(name: &str) -> Vec<EncodedImage> {
    let file = File::open(oracle(name)).unwrap();
    let batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let mut images = Vec::new();
    for batch in batches.map(Result::unwrap) {
        let text = |column: &str, row: usize| batch[column].as_string::<i32>().value(row).to_owned();
        let number = |column: &str, row: usize| batch[column].as_primitive::<UInt32Type>().value(row);
        let lengths = |column: &str, row: usize| match batch.column_by_name(column) {
            Some(lists) if !lists.is_null(row) => {
                lists.as_list::<i32>().value(row).as_primitive::<UInt32Type>().values().to_vec()
            }
            _ => Vec::new(),
        };
        for row in 0..batch.num_rows() {
            let accepted = batch["accepted"].as_boolean().value(row).then(|| PillowImage {
                width: number("width", row),
                height: number("height", row),
                pixels: text("pixels", row),
                dhash: batch.column_by_name("dhash").map(|_| text("dhash", row)).unwrap_or_default(),
            });
            images.push(EncodedImage {
                name: text("name", row),
                bytes: batch["bytes"].as_binary::<i32>().value(row).to_vec(),
                accepted,
                cut_accepted: lengths("cut_accepted", row),
                cut_refused: lengths("cut_refused", row),
            });
        }
    }
    images
}

/// Returns the 64-bit FNV-1a hash in hexadecimal.
pub fn fnv(bytes: impl IntoIterator<Item = u8>) -> String {
    let step = |value: u64, byte: u8| (value ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Returns the same pattern as `pattern` in `tests/oracles/imaging.py`, of shape `[height, width,
/// channels]`.
pub fn pattern(kind: &str, seed: u64, width: usize, height: usize, channels: usize) -> Vec<u8> {
    let random = |index: usize| {
        let mut state = (index as u64).wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^ state >> 31
    };
    let smooth = |index: usize| {
        let (x, y, channel) = (index / channels % width, index / channels / width, index % channels);
        let (x, y, channel) = (x as u64, y as u64, channel as u64);
        let period = 60 + (seed * 7 + channel * 31) % 90;
        let wave = (x * (2 + seed % 3) + y * (1 + seed % 4)) % (2 * period);
        let wave = wave.min(2 * period - wave) * 255 / period;
        (wave as i64 + (random(index) >> 60) as i64 - 8).clamp(0, 255) as u8
    };
    let sample = |index: usize| match kind {
        "noise" => (random(index) >> 56) as u8,
        "binary" => (random(index) >> 63) as u8 * 255,
        "smooth" => smooth(index),
        other => panic!("no pattern {other}"),
    };
    (0..width * height * channels).map(sample).collect()
}
