//! A PNG encoder whose bytes never change: a deflate block of literals with dynamic Huffman codes.
//!
//! Noise does not repeat, so searching for matches would take time and save little. A library's
//! compressed bytes may change with its version or the machine, which would change the ids of the
//! images. RFC 1951, RFC 2083.

use crate::imaging::RgbImage;

/// Longest code of a literal (RFC 1951, 3.2.7).
const LONGEST: u8 = 15;
/// Longest code of a code length.
const LONGEST_LENGTH_CODE: u8 = 7;
/// Literals and the end-of-block symbol.
const SYMBOLS: usize = 257;
const END: usize = 256;
/// Order of the lengths of the code length codes (RFC 1951, 3.2.7).
const LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// Filter type 1: each sample minus the one to its left.
const SUB: u8 = 1;

/// Encodes an image as a PNG file.
pub(super) fn encode(image: &RgbImage) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(image.width().to_be_bytes());
    header.extend(image.height().to_be_bytes());
    // 8 bits, RGB, deflate, the standard filters, not interlaced.
    header.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    push_chunk(&mut file, b"IHDR", &header);
    push_chunk(&mut file, b"IDAT", &compress_zlib(&filter_rows(image)));
    push_chunk(&mut file, b"IEND", &[]);
    file
}

fn push_chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    file.extend(kind);
    file.extend(data);
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(data);
    file.extend(crc.sum().to_be_bytes());
}

/// Returns the rows, each with the filter type before its filtered samples.
fn filter_rows(image: &RgbImage) -> Vec<u8> {
    let row_bytes = image.width() as usize * 3;
    let mut out = Vec::with_capacity(image.data().len() + image.height() as usize);
    for row in image.data().chunks_exact(row_bytes.max(1)) {
        out.push(SUB);
        out.extend_from_slice(&row[..3]);
        out.extend(row.iter().zip(&row[3..]).map(|(left, sample)| sample.wrapping_sub(*left)));
    }
    out
}

/// Compresses data to a zlib stream of one deflate block.
fn compress_zlib(data: &[u8]) -> Vec<u8> {
    let mut counts = [0u32; SYMBOLS];
    data.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    counts[END] = 1;
    let lengths = code_lengths(&counts, LONGEST);
    let codes = canonical_codes(&lengths);
    let mut bits = BitWriter { out: vec![0x78, 0x01], held: 0, number: 0 };
    // The last block, with dynamic codes.
    bits.push(0b101, 3);
    push_lengths(&mut bits, &lengths);
    for &byte in data {
        let symbol = usize::from(byte);
        bits.push(codes[symbol], lengths[symbol]);
    }
    bits.push(codes[END], lengths[END]);
    let mut out = bits.finish();
    out.extend(adler32(data).to_be_bytes());
    out
}

/// Writes the lengths of the literal codes and of one unused distance code (RFC 1951, 3.2.7).
fn push_lengths(bits: &mut BitWriter, lengths: &[u8; SYMBOLS]) {
    // The distance code has length 0: all data are literals.
    let written: Vec<u8> = lengths.iter().copied().chain([0]).collect();
    let runs = run_lengths(&written);
    let mut counts = [0u32; 19];
    runs.iter().for_each(|&(symbol, ..)| counts[usize::from(symbol)] += 1);
    let length_lengths = code_lengths(&counts, LONGEST_LENGTH_CODE);
    let length_codes = canonical_codes(&length_lengths);
    bits.push(0, 5);
    bits.push(0, 5);
    bits.push(19 - 4, 4);
    for symbol in LENGTH_ORDER {
        bits.push(u32::from(length_lengths[symbol]), 3);
    }
    for (symbol, extra, extra_bits) in runs {
        let symbol = usize::from(symbol);
        bits.push(length_codes[symbol], length_lengths[symbol]);
        bits.push(extra, extra_bits);
    }
}

/// Returns code lengths with runs of zeros folded, as (symbol, value of the extra bits, number of
/// extra bits).
fn run_lengths(lengths: &[u8]) -> Vec<(u8, u32, u8)> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < lengths.len() {
        let zeros = lengths[at..].iter().take_while(|&&length| length == 0).count();
        let (run, taken) = match zeros {
            0..=2 => ((lengths[at], 0, 0), 1),
            3..=10 => ((17, zeros as u32 - 3, 3), zeros),
            _ => {
                let taken = zeros.min(138);
                ((18, taken as u32 - 11, 7), taken)
            }
        };
        runs.push(run);
        at += taken;
    }
    runs
}

/// Returns Huffman code lengths, none above `longest`: counts are halved until the tree is shallow.
fn code_lengths<const N: usize>(counts: &[u32; N], longest: u8) -> [u8; N] {
    let mut counts = *counts;
    loop {
        let lengths = huffman_lengths(&counts);
        if lengths.iter().all(|&length| length <= longest) {
            return lengths;
        }
        counts.iter_mut().filter(|count| **count > 0).for_each(|count| *count = count.div_ceil(2));
    }
}

/// Returns Huffman code lengths. Among equal weights the older node is joined first, so the result
/// is unique.
fn huffman_lengths<const N: usize>(counts: &[u32; N]) -> [u8; N] {
    let mut lengths = [0; N];
    let mut leaves: Vec<(u32, usize)> = (0..N).filter(|&s| counts[s] > 0).map(|s| (counts[s], s)).collect();
    if let [(_, only)] = leaves[..] {
        lengths[only] = 1;
        return lengths;
    }
    leaves.sort_unstable();
    // Nodes: the leaves, then the joined nodes, each by weight; `parent` is indexed by node.
    let mut weights: Vec<u32> = leaves.iter().map(|leaf| leaf.0).collect();
    let mut parent = vec![0; leaves.len()];
    let (mut leaf, mut joined) = (0, leaves.len());
    while weights.len() < 2 * leaves.len() - 1 {
        let mut take = || {
            let leaf_is_lighter = joined >= weights.len() || (leaf < leaves.len() && weights[leaf] <= weights[joined]);
            let next = if leaf_is_lighter { &mut leaf } else { &mut joined };
            *next += 1;
            *next - 1
        };
        let (a, b) = (take(), take());
        let node = weights.len();
        (parent[a], parent[b]) = (node, node);
        weights.push(weights[a] + weights[b]);
        parent.push(0);
    }
    let mut depths = vec![0u8; weights.len()];
    for node in (0..weights.len() - 1).rev() {
        depths[node] = depths[parent[node]] + 1;
    }
    for (node, &(_, symbol)) in leaves.iter().enumerate() {
        lengths[symbol] = depths[node];
    }
    lengths
}

/// Returns the canonical codes for lengths (RFC 1951, 3.2.2), bit-reversed, because codes are
/// written first bit first.
fn canonical_codes<const N: usize>(lengths: &[u8; N]) -> [u32; N] {
    let mut codes = [0; N];
    let mut code = 0u32;
    for length in 1..=LONGEST {
        code <<= 1;
        for symbol in (0..N).filter(|&symbol| lengths[symbol] == length) {
            codes[symbol] = code.reverse_bits() >> (32 - u32::from(length));
            code += 1;
        }
    }
    codes
}

/// Writes bits, lowest first.
struct BitWriter {
    out: Vec<u8>,
    held: u64,
    number: u8,
}

impl BitWriter {
    fn push(&mut self, value: u32, bits: u8) {
        self.held |= u64::from(value) << self.number;
        self.number += bits;
        if self.number >= 32 {
            self.out.extend((self.held as u32).to_le_bytes());
            self.held >>= 32;
            self.number -= 32;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        while self.number > 0 {
            self.out.push(self.held as u8);
            self.held >>= 8;
            self.number = self.number.saturating_sub(8);
        }
        self.out
    }
}

fn adler32(data: &[u8]) -> u32 {
    let (mut a, mut b) = (1u32, 0u32);
    // Number of bytes that fit before a sum overflows.
    for chunk in data.chunks(5552) {
        for &byte in chunk {
            a += u32::from(byte);
            b += a;
        }
        a %= 65_521;
        b %= 65_521;
    }
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{code_lengths, encode};
    use crate::imaging::{Limits, RgbImage, decode};

    fn assert_decodes(width: u32, height: u32, data: Vec<u8>) {
        let image = RgbImage::new(width, height, data).unwrap();
        assert_eq!(decode(&encode(&image), &Limits::default()).unwrap().pixels, image);
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(width in 1u32..40, height in 1u32..40, seed: u64, levels in 1u64..256) {
            let byte = |i: u64| ((seed ^ i).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % levels;
            assert_decodes(width, height, (0..u64::from(width * height * 3)).map(|i| byte(i) as u8).collect());
        }
    }

    #[test]
    fn skewed_and_flat_images_decode() {
        assert_decodes(112, 112, vec![0; 112 * 112 * 3]);
        assert_decodes(128, 2, (0..768).map(|i| (i / 3) as u8).collect());
        // Each value is twice as frequent as the previous one, so the tree would be deeper than
        // codes may be.
        let steep: Vec<u8> = (0..90_000u32).map(|i| (i + 1).leading_zeros() as u8).collect();
        assert_decodes(300, 100, steep);
    }

    #[test]
    fn codes_are_complete_and_within_their_limit() {
        let mut counts = [0u32; 30];
        let (mut a, mut b) = (1, 1);
        for count in &mut counts {
            *count = a;
            (a, b) = (b, a + b);
        }
        for longest in [5, 7, 15, 29] {
            let lengths = code_lengths(&counts, longest);
            assert!(lengths.iter().all(|&l| l > 0 && l <= longest));
            assert_eq!(lengths.iter().map(|&l| 1u64 << (longest - l)).sum::<u64>(), 1 << longest);
        }
    }
}
