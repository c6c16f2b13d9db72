//! Bit reader for entropy-coded data, and its Huffman codes (T.81, annexes C and F.2.2).

use crate::imaging::error::ImageError;

/// Number of bits of the first lookup of a code.
const LOOKUP_BITS: usize = 10;
/// Number of bits of the longest code.
const MAX_CODE_BITS: usize = 16;
/// Number of bits that suffice for a code and the value after it.
const REFILL_BITS: u32 = 32;

/// Reads bits up to the next marker, and zeros after it.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the highest bit on.
    buffer: u64,
    /// Number of valid bits in `buffer`.
    count: u32,
    /// Marker at offset `at`, if one was reached.
    marker: Option<u8>,
    /// Whether more bits were requested than exist.
    pub(super) is_exhausted: bool,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, buffer: 0, count: 0, marker: None, is_exhausted: false }
    }

    /// Returns the offset from which to search for the next marker.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Fills the buffer with enough bits for a code and its value.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if self.count >= REFILL_BITS {
            return;
        }
        if let Some(word) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_be_bytes(*word);
            // True if none of the eight bytes is 0xff, that is, no byte of the complement is zero.
            let zeros = !word;
            if zeros.wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080 == 0 {
                self.buffer |= word >> self.count;
                self.at += ((63 - self.count) >> 3) as usize;
                self.count |= 56;
                return;
            }
        }
        self.refill_bytes();
    }

    fn refill_bytes(&mut self) {
        while self.count <= 56 && self.marker.is_none() {
            let byte = match self.bytes.get(self.at) {
                None => return,
                Some(0xff) => {
                    let after = self.bytes[self.at..].iter().position(|byte| *byte != 0xff);
                    let Some(after) = after.map(|skipped| self.at + skipped) else { return };
                    if self.bytes[after] != 0 {
                        self.marker = Some(self.bytes[after]);
                        return;
                    }
                    self.at = after;
                    0xff
                }
                Some(byte) => *byte,
            };
            self.at += 1;
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline(always)]
    fn consume(&mut self, count: u32) {
        if count > self.count {
            self.is_exhausted = true;
            self.buffer = 0;
            self.count = 0;
        } else {
            self.buffer <<= count;
            self.count -= count;
        }
    }

    /// Returns the next `count` bits, at most 16, after a refill.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> i32 {
        // In two steps, since a shift by 64 is not defined.
        let value = (self.buffer >> 1 >> (63 - count)) as i32;
        self.consume(count);
        value
    }

    /// Returns the signed value of `size` bits (T.81, figure F.12).
    #[inline(always)]
    pub(super) fn take_signed(&mut self, size: u32) -> i32 {
        extend(self.take(size), size)
    }

    /// Returns the next code's symbol; 0 for bits that are not a code.
    #[inline(always)]
    pub(super) fn symbol(&mut self, table: &HuffmanTable) -> u8 {
        let (length, symbol) = table.short[(self.buffer >> (64 - LOOKUP_BITS)) as usize];
        if length > 0 {
            self.consume(u32::from(length));
            return symbol;
        }
        self.long_symbol(table)
    }

    fn long_symbol(&mut self, table: &HuffmanTable) -> u8 {
        for length in LOOKUP_BITS + 1..=MAX_CODE_BITS {
            let code = (self.buffer >> (64 - length)) as i32;
            if code <= table.last_code[length] {
                self.consume(length as u32);
                return table.symbols[(code + table.offset[length]) as usize];
            }
        }
        self.consume(MAX_CODE_BITS as u32 + 1);
        0
    }

    /// Decodes a short code and its value in one lookup: (run of zeros, value).
    #[inline(always)]
    pub(super) fn run_and_value(&mut self, table: &HuffmanTable) -> Option<(u8, i16)> {
        let pair = table.pairs[(self.buffer >> (64 - LOOKUP_BITS)) as usize];
        if pair.length == 0 {
            return None;
        }
        self.consume(u32::from(pair.length));
        Some((pair.run, pair.value))
    }

    /// Drops the remaining bits of the segment and skips the restart marker numbered `expected`.
    ///
    /// If another marker is found, it is treated as in libjpeg (`jpeg_resync_to_restart`): one of
    /// the next two is left for a later call, one of the previous two is skipped, any other is
    /// taken for the expected one.
    pub(super) fn restart(&mut self, expected: u8) {
        self.buffer = 0;
        self.count = 0;
        loop {
            let Some(marker) = self.marker.or_else(|| self.find_marker()) else {
                self.is_exhausted = true;
                return;
            };
            let ahead = marker.wrapping_sub(0xd0).wrapping_sub(expected) & 7;
            match marker {
                0xd0..=0xd7 if ahead == 1 || ahead == 2 => return,
                0xd0..=0xd7 if ahead == 6 || ahead == 7 => self.skip_marker(),
                0xd0..=0xd7 => {
                    self.skip_marker();
                    self.is_exhausted = false;
                    return;
                }
                0x00..=0xbf => self.skip_marker(),
                _ => return,
            }
        }
    }

    fn find_marker(&mut self) -> Option<u8> {
        while let Some(found) = self.bytes.get(self.at..)?.iter().position(|byte| *byte == 0xff) {
            self.at += found;
            let after = self.at + self.bytes[self.at..].iter().position(|byte| *byte != 0xff)?;
            if self.bytes[after] != 0 {
                self.marker = Some(self.bytes[after]);
                return self.marker;
            }
            self.at = after + 1;
        }
        None
    }

    fn skip_marker(&mut self) {
        let fill = self.bytes[self.at..].iter().take_while(|byte| **byte == 0xff).count();
        self.at += fill + 1;
        self.marker = None;
    }
}

/// Extends the sign of a value (T.81, figure F.12).
#[inline(always)]
fn extend(value: i32, size: u32) -> i32 {
    if size > 0 && value < 1 << (size - 1) { value - (1 << size) + 1 } else { value }
}

/// A run of zeros and the value after it, if both fit into one lookup; length 0 means none.
#[derive(Clone, Copy, Default)]
struct RunAndValue {
    value: i16,
    run: u8,
    length: u8,
}

/// Lookup tables of a Huffman code.
pub(super) struct HuffmanTable {
    /// Length and symbol of the code that the next bits begin with; length 0 for longer codes.
    short: [(u8, u8); 1 << LOOKUP_BITS],
    pairs: [RunAndValue; 1 << LOOKUP_BITS],
    /// The last code of each length, -1 for none.
    last_code: [i32; MAX_CODE_BITS + 1],
    /// For each length, the difference between the index of a symbol and its code.
    offset: [i32; MAX_CODE_BITS + 1],
    symbols: [u8; 256],
}

impl HuffmanTable {
    /// Builds the tables from the number of codes of each length and the symbols in code order.
    pub(super) fn new(counts: [u8; MAX_CODE_BITS], values: &[u8], for_dc: bool) -> Result<Box<Self>, ImageError> {
        let mut table = Box::new(Self {
            short: [(0, 0); 1 << LOOKUP_BITS],
            pairs: [RunAndValue::default(); 1 << LOOKUP_BITS],
            last_code: [-1; MAX_CODE_BITS + 1],
            offset: [0; MAX_CODE_BITS + 1],
            symbols: [0; 256],
        });
        table.symbols[..values.len()].copy_from_slice(values);
        let (mut code, mut place) = (0i32, 0);
        for (length, count) in (1..).zip(counts) {
            let count = usize::from(count);
            if code as usize + count > 1 << length {
                return Err(ImageError::corrupt("a Huffman table with too many codes"));
            }
            table.offset[length] = place as i32 - code;
            for symbol in &values[place..place + count] {
                if for_dc && *symbol > 15 {
                    return Err(ImageError::corrupt("a Huffman table with an impossible difference"));
                }
                if length <= LOOKUP_BITS {
                    let first = (code as usize) << (LOOKUP_BITS - length);
                    table.short[first..first + (1 << (LOOKUP_BITS - length))].fill((length as u8, *symbol));
                }
                code += 1;
            }
            if count > 0 {
                table.last_code[length] = code - 1;
            }
            place += count;
            code <<= 1;
        }
        if !for_dc {
            table.find_pairs();
        }
        Ok(table)
    }

    /// Fills the table of short codes with their values.
    fn find_pairs(&mut self) {
        for (bits, (length, symbol)) in self.short.iter().enumerate() {
            let (run, size) = (symbol >> 4, u32::from(symbol & 15));
            let total = u32::from(*length) + size;
            if *length > 0 && size > 0 && total <= LOOKUP_BITS as u32 {
                let value = (bits >> (LOOKUP_BITS as u32 - total)) as i32 & ((1 << size) - 1);
                self.pairs[bits] = RunAndValue { value: extend(value, size) as i16, run, length: total as u8 };
            }
        }
    }
}
