//! BitReader of entropy-coded data, and the Huffman codes in them (T.81, annexes C and F.2.2).

use crate::imaging::error::ImageError;

/// BitReader that the first look at a code takes in.
const LOOK: usize = 10;
/// The longest code.
const LONGEST: usize = 16;
/// BitReader that one refill provides for: a code, wrong by one bit, and a value behind it.
const ENOUGH: u32 = 32;

/// Reads bits up to the next marker; beyond it there are zeros.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the highest.
    buffer: u64,
    /// How many of them count.
    count: u32,
    /// The marker that `at` has come to.
    marker: Option<u8>,
    /// Whether more bits were asked for than there are.
    pub(super) exhausted: bool,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, buffer: 0, count: 0, marker: None, exhausted: false }
    }

    /// Where the next marker may be looked for.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Makes a code and a value available.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if self.count >= ENOUGH {
            return;
        }
        if let Some(word) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_be_bytes(*word);
            // no byte of 0xff among the eight: no byte of its complement is zero
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
            self.exhausted = true;
            self.buffer = 0;
            self.count = 0;
        } else {
            self.buffer <<= count;
            self.count -= count;
        }
    }

    /// The next `count` bits, at most 16; refilled before.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> i32 {
        // in two steps, since a shift by 64 has no meaning
        let value = (self.buffer >> 1 >> (63 - count)) as i32;
        self.consume(count);
        value
    }

    /// The signed value of `size` bits (T.81, figure F.12).
    #[inline(always)]
    pub(super) fn take_signed(&mut self, size: u32) -> i32 {
        extend(self.take(size), size)
    }

    /// The next code's symbol; 0 for bits that are no code.
    #[inline(always)]
    pub(super) fn symbol(&mut self, table: &HuffmanTable) -> u8 {
        let (length, symbol) = table.short[(self.buffer >> (64 - LOOK)) as usize];
        if length > 0 {
            self.consume(u32::from(length));
            return symbol;
        }
        self.long_symbol(table)
    }

    fn long_symbol(&mut self, table: &HuffmanTable) -> u8 {
        for length in LOOK + 1..=LONGEST {
            let code = (self.buffer >> (64 - length)) as i32;
            if code <= table.last_code[length] {
                self.consume(length as u32);
                return table.symbols[(code + table.offset[length]) as usize];
            }
        }
        self.consume(LONGEST as u32 + 1);
        0
    }

    /// A short code and its value at one look: (run of zeros, value).
    #[inline(always)]
    pub(super) fn run_and_value(&mut self, table: &HuffmanTable) -> Option<(u8, i16)> {
        let pair = table.pairs[(self.buffer >> (64 - LOOK)) as usize];
        if pair.length == 0 {
            return None;
        }
        self.consume(u32::from(pair.length));
        Some((pair.run, pair.value))
    }

    /// Drops the rest of the segment's bits and passes the restart marker numbered `expected`, or does what libjpeg does when
    /// another is found (`jpeg_resync_to_restart`): a near later one is left to be met again, an earlier one is
    /// passed over, a far one is taken for the expected.
    pub(super) fn restart(&mut self, expected: u8) {
        self.buffer = 0;
        self.count = 0;
        loop {
            let Some(marker) = self.marker.or_else(|| self.find_marker()) else {
                self.exhausted = true;
                return;
            };
            let ahead = marker.wrapping_sub(0xd0).wrapping_sub(expected) & 7;
            match marker {
                0xd0..=0xd7 if ahead == 1 || ahead == 2 => return,
                0xd0..=0xd7 if ahead == 6 || ahead == 7 => self.pass_marker(),
                0xd0..=0xd7 => {
                    self.pass_marker();
                    self.exhausted = false;
                    return;
                }
                0x00..=0xbf => self.pass_marker(),
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

    fn pass_marker(&mut self) {
        let fill = self.bytes[self.at..].iter().take_while(|byte| **byte == 0xff).count();
        self.at += fill + 1;
        self.marker = None;
    }
}

#[inline(always)]
fn extend(value: i32, size: u32) -> i32 {
    if size > 0 && value < 1 << (size - 1) { value - (1 << size) + 1 } else { value }
}

/// A run of zeros and the value after it, whose code and bits fit in one look; a length of 0 stands for none.
#[derive(Clone, Copy, Default)]
struct RunAndValue {
    value: i16,
    run: u8,
    length: u8,
}

/// A Huffman code, ready for decoding.
pub(super) struct HuffmanTable {
    /// By the next bits: length and symbol of a code that fits; a length of 0 for the others.
    short: [(u8, u8); 1 << LOOK],
    pairs: [RunAndValue; 1 << LOOK],
    /// By length: the last code, -1 for none; and what turns a code into a symbol's place.
    last_code: [i32; LONGEST + 1],
    offset: [i32; LONGEST + 1],
    symbols: [u8; 256],
}

impl HuffmanTable {
    /// From the number of codes of each length and the symbols in the order of their codes.
    pub(super) fn new(counts: [u8; LONGEST], values: &[u8], for_dc: bool) -> Result<Box<Self>, ImageError> {
        let mut table = Box::new(Self {
            short: [(0, 0); 1 << LOOK],
            pairs: [RunAndValue::default(); 1 << LOOK],
            last_code: [-1; LONGEST + 1],
            offset: [0; LONGEST + 1],
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
                if length <= LOOK {
                    let first = (code as usize) << (LOOK - length);
                    table.short[first..first + (1 << (LOOK - length))].fill((length as u8, *symbol));
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

    fn find_pairs(&mut self) {
        for (bits, (length, symbol)) in self.short.iter().enumerate() {
            let (run, size) = (symbol >> 4, u32::from(symbol & 15));
            let total = u32::from(*length) + size;
            if *length > 0 && size > 0 && total <= LOOK as u32 {
                let value = (bits >> (LOOK as u32 - total)) as i32 & ((1 << size) - 1);
                self.pairs[bits] = RunAndValue { value: extend(value, size) as i16, run, length: total as u8 };
            }
        }
    }
}
