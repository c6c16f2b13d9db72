//! A seeded mutator of image files: bit flips, truncation, headers of other formats, false sizes,
//! splices.

use std::fs;
use std::path::Path;

use crate::oracle_files::{EncodedImage, encoded_images, oracle_images};
use crate::random::Random;

/// Mutates the encoded files of the imaging oracle.
pub struct Mutator {
    random: Random,
    corpus: Vec<(String, Vec<u8>)>,
}

impl Mutator {
    pub fn new(seed: u64) -> Self {
        let kinds = oracle_images("imaging-kinds.parquet").into_iter().filter(|image| image.accepted.is_some());
        // Names become names of files.
        let entry = |image: EncodedImage| (image.name.replace('/', "-"), image.bytes);
        let corpus: Vec<_> = encoded_images().into_iter().chain(kinds.step_by(3)).map(entry).collect();
        #[cfg(any(feature = "avif", feature = "heic"))]
        let corpus = corpus.into_iter().chain(crate::imaging_heif::heif_images().into_iter().map(entry)).collect();
        Self { random: Random::new(seed), corpus }
    }

    /// Returns a mutated file: a name that tells the kind of mutation, and its bytes.
    pub fn mutant(&mut self) -> (String, Vec<u8>) {
        let (name, mut bytes) = self.pick();
        let kind = ["flip", "flip", "burst", "cut", "header", "size", "splice", "swap"][self.random.index(8)];
        match kind {
            "flip" => (0..1 + self.random.index(6)).for_each(|_| self.flip(&mut bytes)),
            "burst" => {
                let start = self.random.index(bytes.len());
                let end = bytes.len().min(start + 1 + self.random.index(40));
                bytes[start..end].iter_mut().for_each(|byte| *byte = self.random.draw() as u8);
            }
            "cut" => bytes.truncate(self.random.index(bytes.len())),
            "header" => {
                let (_, other) = self.pick();
                let length = (4 + self.random.index(28)).min(other.len()).min(bytes.len());
                bytes[..length].copy_from_slice(&other[..length]);
            }
            "size" => self.falsify_size(&mut bytes),
            "splice" => {
                let (_, other) = self.pick();
                bytes.truncate(self.random.index(bytes.len()) + 1);
                let start = self.random.index(other.len());
                bytes.extend_from_slice(&other[start..]);
            }
            _ => {
                let half = bytes.len() / 2;
                bytes.rotate_left(half.min(8 + self.random.index(64)));
            }
        }
        if self.random.index(4) == 0 && !bytes.is_empty() {
            self.flip(&mut bytes);
        }
        (format!("{kind}-{name}"), bytes)
    }

    /// Writes `count` mutated files with distinct names and the original suffixes into a folder.
    pub fn write_files(&mut self, folder: &Path, count: usize) {
        for number in 0..count {
            let (name, bytes) = self.mutant();
            fs::write(folder.join(format!("{number:05}-{name}")), bytes).unwrap();
        }
    }

    fn pick(&mut self) -> (String, Vec<u8>) {
        self.corpus[self.random.index(self.corpus.len())].clone()
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        let index = self.random.index(bytes.len());
        bytes[index] ^= 1 << self.random.index(8);
    }

    /// Writes an extreme number where formats have their sizes, and corrects the checksum of a PNG.
    fn falsify_size(&mut self, bytes: &mut [u8]) {
        let sizes = match bytes {
            [0x89, ..] => 16,
            [b'G', ..] => 6,
            [b'B', ..] => 18,
            [b'R', ..] => 24,
            [0xff, 0xd8, ..] => {
                let frame = bytes.windows(2).position(|pair| matches!(pair, [0xff, 0xc0 | 0xc2]));
                frame.map_or(20, |at| at + 5)
            }
            _ => 8 + 2 + self.random.index(12) * 12 + 8,
        };
        let values = [0u32, 1, 2, 0x7f, 0xff, 0x100, 0xffff, 0x1_0000, 0x00ff_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX];
        let value = values[self.random.index(values.len())];
        let raw = if self.random.index(2) == 0 { value.to_be_bytes() } else { value.to_le_bytes() };
        let start = sizes + self.random.index(8);
        if let Some(place) = bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&raw);
        }
        if bytes.starts_with(b"\x89PNG") && bytes.len() > 33 {
            let checksum = crc32(&bytes[12..29]).to_be_bytes();
            bytes[29..33].copy_from_slice(&checksum);
        }
    }
}

/// Returns the checksum of a PNG chunk (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}
