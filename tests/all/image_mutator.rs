//! A seeded mutator of image files: bit flips, cuts, other formats' headers, lying sizes, splices.

use std::fs;
use std::path::Path;

use crate::oracle_files::encoded_images;

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): the same files for the same seed, everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut state = self.0;
        state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^ state >> 31
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound as u64) as usize
    }
}

/// Real encoded files, and what is made of them.
pub struct Mutator {
    random: Random,
    corpus: Vec<(String, Vec<u8>)>,
}

impl Mutator {
    pub fn new(seed: u64) -> Self {
        let corpus = encoded_images().into_iter().map(|image| (image.name, image.bytes)).collect();
        Self { random: Random::new(seed), corpus }
    }

    /// A mutant: a name that says what it is, and its bytes.
    pub fn mutant(&mut self) -> (String, Vec<u8>) {
        let (name, mut bytes) = self.pick();
        let kind = ["flip", "flip", "burst", "cut", "header", "size", "splice", "swap"][self.random.below(8)];
        match kind {
            "flip" => (0..1 + self.random.below(6)).for_each(|_| self.flip(&mut bytes)),
            "burst" => {
                let start = self.random.below(bytes.len());
                let end = bytes.len().min(start + 1 + self.random.below(40));
                bytes[start..end].iter_mut().for_each(|byte| *byte = self.random.draw() as u8);
            }
            "cut" => bytes.truncate(self.random.below(bytes.len())),
            "header" => {
                let (_, other) = self.pick();
                let length = (4 + self.random.below(28)).min(other.len()).min(bytes.len());
                bytes[..length].copy_from_slice(&other[..length]);
            }
            "size" => self.lie(&mut bytes),
            "splice" => {
                let (_, other) = self.pick();
                bytes.truncate(self.random.below(bytes.len()) + 1);
                let start = self.random.below(other.len());
                bytes.extend_from_slice(&other[start..]);
            }
            _ => {
                let half = bytes.len() / 2;
                bytes.rotate_left(half.min(8 + self.random.below(64)));
            }
        }
        if self.random.below(4) == 0 && !bytes.is_empty() {
            self.flip(&mut bytes);
        }
        (format!("{kind}-{name}"), bytes)
    }

    /// Writes `count` mutants into a folder, for a test that ingests them. Names repeat no other and keep the suffix.
    pub fn write_files(&mut self, folder: &Path, count: usize) {
        for number in 0..count {
            let (name, bytes) = self.mutant();
            fs::write(folder.join(format!("{number:05}-{name}")), bytes).unwrap();
        }
    }

    fn pick(&mut self) -> (String, Vec<u8>) {
        self.corpus[self.random.below(self.corpus.len())].clone()
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        let place = self.random.below(bytes.len());
        bytes[place] ^= 1 << self.random.below(8);
    }

    /// Puts an extreme number where formats have their sizes, and mends a PNG's checksum so that it is believed.
    fn lie(&mut self, bytes: &mut [u8]) {
        let sizes = match bytes {
            [0x89, ..] => 16,
            [b'G', ..] => 6,
            [b'B', ..] => 18,
            [b'R', ..] => 24,
            [0xff, 0xd8, ..] => {
                let frame = bytes.windows(2).position(|pair| matches!(pair, [0xff, 0xc0 | 0xc2]));
                frame.map_or(20, |at| at + 5)
            }
            _ => 8 + 2 + self.random.below(12) * 12 + 8,
        };
        let values = [0u32, 1, 2, 0x7f, 0xff, 0x100, 0xffff, 0x1_0000, 0x00ff_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX];
        let value = values[self.random.below(values.len())];
        let raw = if self.random.below(2) == 0 { value.to_be_bytes() } else { value.to_le_bytes() };
        let start = sizes + self.random.below(8);
        if let Some(place) = bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&raw);
        }
        if bytes.starts_with(b"\x89PNG") && bytes.len() > 33 {
            let checksum = crc32(&bytes[12..29]).to_be_bytes();
            bytes[29..33].copy_from_slice(&checksum);
        }
    }
}

/// The checksum of PNG chunks (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}
