//! Decoding of scans: from entropy-coded data to coefficients of blocks (T.81, annexes F and G).

use super::bits::{BitReader, HuffmanTable};
use super::frame::Frame;
use super::markers::Segment;
use super::standard;
use crate::imaging::error::ImageError;

/// Coefficients of a block, row by row.
pub(super) type Block = [i16; 64];

/// Position in a block by coding order (zigzag). Indices past 63, which occur in damaged data, map
/// to the last position.
pub(super) const ZIGZAG: [u8; 80] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
];

/// A slot for a Huffman table: empty, or filled by the file; the inner `None` is a table that is
/// not a valid code.
type TableSlot = Option<Option<Box<HuffmanTable>>>;

/// Tables and parameters that the segments between scans define.
#[derive(Default)]
pub(super) struct DecoderTables {
    /// Quantisation tables, row by row like blocks.
    quantisation: [Option<[u16; 64]>; 4],
    dc: [TableSlot; 4],
    ac: [TableSlot; 4],
    restart_interval: u32,
    /// Whether the file has a JFIF header.
    pub(super) jfif: bool,
    /// Colour transform of the Adobe header, if there is one.
    pub(super) adobe: Option<u8>,
}

impl DecoderTables {
    /// Reads a segment that defines tables or parameters.
    pub(super) fn read(&mut self, segment: &Segment<'_>) -> Result<(), ImageError> {
        let body = segment.body;
        match segment.marker {
            0xc4 => self.read_huffman(body),
            0xdb => self.read_quantisation(body),
            0xdd => {
                let [high, low, ..] = body else {
                    return Err(ImageError::corrupt("a restart interval that is too short"));
                };
                self.restart_interval = u32::from(u16::from_be_bytes([*high, *low]));
                Ok(())
            }
            0xe0 => {
                self.jfif |= body.starts_with(b"JFIF\0") && body.len() >= 14;
                Ok(())
            }
            0xee => {
                if let (true, Some(transform)) = (body.starts_with(b"Adobe"), body.get(11)) {
                    self.adobe = Some(*transform);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn read_huffman(&mut self, mut body: &[u8]) -> Result<(), ImageError> {
        while let [selector, rest @ ..] = body {
            let counts =
                rest.first_chunk::<16>().ok_or_else(|| ImageError::corrupt("a Huffman table that is too short"))?;
            let total: usize = counts.iter().map(|count| usize::from(*count)).sum();
            let values = rest.get(16..16 + total).filter(|values| values.len() <= 256);
            let values = values.ok_or_else(|| ImageError::corrupt("a Huffman table that is too short"))?;
            let for_dc = selector >> 4 == 0;
            let tables = if for_dc { &mut self.dc } else { &mut self.ac };
            let place = tables.get_mut(usize::from(selector & 15)).filter(|_| selector >> 4 < 2);
            let place = place.ok_or_else(|| ImageError::corrupt("a Huffman table of an unknown kind"))?;
            // An invalid code is an error only if a scan uses it.
            *place = Some(HuffmanTable::new(*counts, values, for_dc).ok());
            body = &rest[16 + total..];
        }
        Ok(())
    }

    fn read_quantisation(&mut self, mut body: &[u8]) -> Result<(), ImageError> {
        while let [selector, rest @ ..] = body {
            let width = if selector >> 4 == 0 { 1 } else { 2 };
            let values =
                rest.get(..64 * width).ok_or_else(|| ImageError::corrupt("a quantisation table that is too short"))?;
            let place = self.quantisation.get_mut(usize::from(selector & 15));
            let table =
                place.ok_or_else(|| ImageError::corrupt("a quantisation table of an unknown place"))?.insert([0; 64]);
            for (value, position) in values.chunks_exact(width).zip(ZIGZAG) {
                table[usize::from(position)] = value.iter().fold(0, |sum, byte| sum << 8 | u16::from(*byte));
            }
            body = &rest[64 * width..];
        }
        Ok(())
    }

    /// Fills empty slots with the standard tables, as libjpeg does.
    pub(super) fn fill_with_standard(&mut self) {
        for (number, place) in self.dc.iter_mut().enumerate() {
            place.get_or_insert_with(|| standard::table(number, true));
        }
        for (number, place) in self.ac.iter_mut().enumerate() {
            place.get_or_insert_with(|| standard::table(number, false));
        }
    }

    /// Returns a quantisation table.
    pub(super) fn quantisation(&self, place: usize) -> Result<[u16; 64], ImageError> {
        self.quantisation
            .get(place)
            .copied()
            .flatten()
            .ok_or_else(|| ImageError::corrupt("a missing quantisation table"))
    }
}

/// A component of a scan, with its Huffman tables.
pub(super) struct ScanComponent {
    /// Index of the component in the frame.
    pub(super) component: usize,
    /// Slots of its Huffman tables.
    dc: usize,
    ac: usize,
}

/// Header of a scan (T.81, B.2.3).
pub(super) struct Scan {
    pub(super) parts: Vec<ScanComponent>,
    /// First and last coefficient of the band, in coding order.
    pub(super) first: usize,
    pub(super) last: usize,
    /// Whether the scan refines coefficients of an earlier scan by one bit.
    refines: bool,
    /// Lowest bit that the scan codes.
    pub(super) low_bit: u32,
}

impl Scan {
    pub(super) fn read(body: &[u8], frame: &Frame) -> Result<Self, ImageError> {
        let short = || ImageError::corrupt("a scan header that is too short");
        let [count, rest @ ..] = body else { return Err(short()) };
        let count = usize::from(*count);
        let [first, last, approximation, ..] = *rest.get(count * 2..).ok_or_else(short)? else { return Err(short()) };
        let mut parts: Vec<ScanComponent> = Vec::new();
        for entry in rest[..count * 2].chunks_exact(2) {
            let component = frame.components.iter().position(|component| component.id == entry[0]);
            let component = component.filter(|found| parts.iter().all(|part| part.component != *found));
            let component = component.ok_or_else(|| ImageError::corrupt("a scan of an unknown component"))?;
            parts.push(ScanComponent { component, dc: usize::from(entry[1] >> 4), ac: usize::from(entry[1] & 15) });
        }
        let blocks: usize =
            parts.iter().map(|part| frame.components[part.component].h * frame.components[part.component].v).sum();
        if parts.is_empty() || (parts.len() > 1 && blocks > 10) {
            return Err(ImageError::corrupt("a scan of no or too many blocks"));
        }
        let (first, last) = (usize::from(first), usize::from(last));
        let (high_bit, low_bit) = (approximation >> 4, u32::from(approximation & 15));
        let scan = Self { parts, first, last, refines: high_bit > 0, low_bit };
        if frame.is_progressive {
            let band = if first == 0 { last == 0 } else { first <= last && last < 64 && scan.parts.len() == 1 };
            if !band || low_bit > 13 || (high_bit > 0 && u32::from(high_bit) != low_bit + 1) {
                return Err(ImageError::corrupt("a progressive scan of impossible parameters"));
            }
        }
        Ok(scan)
    }
}

/// Entropy decoder of one scan.
pub(super) struct EntropyDecoder<'a> {
    scan: &'a Scan,
    tables: &'a DecoderTables,
    is_progressive: bool,
    bits: BitReader<'a>,
    /// Number of units until the next restart marker.
    until_restart: u32,
    next_restart: u8,
    /// Last DC value of each component of the scan.
    predictions: [i32; 4],
    /// Number of blocks without further coefficients in the band, including the current one.
    end_of_band: u32,
}

impl<'a> EntropyDecoder<'a> {
    pub(super) fn new(
        scan: &'a Scan,
        tables: &'a DecoderTables,
        is_progressive: bool,
        bytes: &'a [u8],
        at: usize,
    ) -> Result<Self, ImageError> {
        for part in &scan.parts {
            let dc_needed = !is_progressive || (scan.first == 0 && !scan.refines);
            let ac_needed = !is_progressive || scan.first > 0;
            if (dc_needed && table(&tables.dc, part.dc).is_none())
                || (ac_needed && table(&tables.ac, part.ac).is_none())
            {
                return Err(ImageError::corrupt("a scan without its Huffman table"));
            }
        }
        Ok(Self {
            scan,
            tables,
            is_progressive,
            bits: BitReader::new(bytes, at),
            until_restart: tables.restart_interval,
            next_restart: 0,
            predictions: [0; 4],
            end_of_band: 0,
        })
    }

    pub(super) fn position(&self) -> usize {
        self.bits.position()
    }

    /// Begins a unit, after skipping a restart marker if one is due. Returns false if the data has
    /// ended; the unit then keeps its coefficients.
    pub(super) fn begin_unit(&mut self) -> bool {
        if self.tables.restart_interval > 0 {
            if self.until_restart == 0 {
                self.bits.restart(self.next_restart);
                self.next_restart = (self.next_restart + 1) & 7;
                self.predictions = [0; 4];
                self.end_of_band = 0;
                self.until_restart = self.tables.restart_interval;
            }
            self.until_restart -= 1;
        }
        !self.bits.is_exhausted
    }

    /// Whether the data has not ended.
    pub(super) fn has_data(&self) -> bool {
        !self.bits.is_exhausted
    }

    /// Whether the data has ended for good.
    pub(super) fn is_over(&self) -> bool {
        self.bits.is_exhausted && self.tables.restart_interval == 0
    }

    /// Decodes a block of the scan's component `part`.
    #[inline(always)]
    pub(super) fn decode(&mut self, part: usize, block: &mut Block) {
        match (self.is_progressive, self.scan.first, self.scan.refines) {
            (false, ..) => self.sequential(part, block),
            (true, 0, false) => self.first_dc(part, block),
            (true, 0, true) => self.refine_dc(block),
            (true, _, false) => self.first_band(part, block),
            (true, _, true) => self.refine_band(part, block),
        }
    }

    #[inline(always)]
    fn dc_value(&mut self, part: usize) -> i32 {
        let Some(table) = table(&self.tables.dc, self.scan.parts[part].dc) else { return 0 };
        self.bits.refill();
        let size = u32::from(self.bits.symbol(table));
        let difference = self.bits.take_signed(size);
        self.predictions[part] = self.predictions[part].wrapping_add(difference);
        self.predictions[part]
    }

    fn sequential(&mut self, part: usize, block: &mut Block) {
        block[0] = self.dc_value(part) as i16;
        let Some(table) = table(&self.tables.ac, self.scan.parts[part].ac) else { return };
        let mut index = 1;
        while index < 64 {
            self.bits.refill();
            if let Some((run, value)) = self.bits.run_and_value(table) {
                index += usize::from(run);
                block[usize::from(ZIGZAG[index])] = value;
                index += 1;
                continue;
            }
            let symbol = self.bits.symbol(table);
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size > 0 {
                index += run;
                block[usize::from(ZIGZAG[index])] = self.bits.take_signed(size) as i16;
            } else if run == 15 {
                index += 15;
            } else {
                break;
            }
            index += 1;
        }
    }

    fn first_dc(&mut self, part: usize, block: &mut Block) {
        block[0] = (self.dc_value(part) << self.scan.low_bit) as i16;
    }

    fn refine_dc(&mut self, block: &mut Block) {
        self.bits.refill();
        if self.bits.take(1) == 1 {
            block[0] |= 1 << self.scan.low_bit;
        }
    }

    /// Reads the length of the run of blocks that an end-of-band symbol begins, including the
    /// current block.
    fn band_run(&mut self, exponent: usize) -> u32 {
        self.bits.refill();
        (1 << exponent) + self.bits.take(exponent as u32) as u32
    }

    fn first_band(&mut self, part: usize, block: &mut Block) {
        if self.end_of_band > 0 {
            self.end_of_band -= 1;
            return;
        }
        let Some(table) = table(&self.tables.ac, self.scan.parts[part].ac) else { return };
        let mut index = self.scan.first;
        while index <= self.scan.last {
            self.bits.refill();
            let symbol = self.bits.symbol(table);
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size > 0 {
                index += run;
                block[usize::from(ZIGZAG[index])] = (self.bits.take_signed(size) << self.scan.low_bit) as i16;
            } else if run == 15 {
                index += 15;
            } else {
                self.end_of_band = self.band_run(run) - 1;
                break;
            }
            index += 1;
        }
    }

    fn refine_band(&mut self, part: usize, block: &mut Block) {
        let Some(table) = table(&self.tables.ac, self.scan.parts[part].ac) else { return };
        let bit = 1i16 << self.scan.low_bit;
        let mut index = self.scan.first;
        while self.end_of_band == 0 && index <= self.scan.last {
            self.bits.refill();
            let symbol = self.bits.symbol(table);
            let (mut run, size) = (i32::from(symbol >> 4), symbol & 15);
            let mut new_value = 0;
            if size > 0 {
                new_value = if self.bits.take(1) == 1 { bit } else { -bit };
            } else if run < 15 {
                self.end_of_band = self.band_run(run as usize);
                break;
            }
            // Skips nonzero coefficients, each with a correction bit, and `run` zero coefficients.
            while index <= self.scan.last {
                let coefficient = &mut block[usize::from(ZIGZAG[index])];
                if *coefficient != 0 {
                    self.bits.refill();
                    correct(coefficient, bit, self.bits.take(1) == 1);
                } else {
                    run -= 1;
                    if run < 0 {
                        break;
                    }
                }
                index += 1;
            }
            if new_value != 0 {
                block[usize::from(ZIGZAG[index])] = new_value;
            }
            index += 1;
        }
        if self.end_of_band > 0 {
            for position in ZIGZAG.get(index..=self.scan.last).unwrap_or_default() {
                let coefficient = &mut block[usize::from(*position)];
                if *coefficient != 0 {
                    self.bits.refill();
                    correct(coefficient, bit, self.bits.take(1) == 1);
                }
            }
            self.end_of_band -= 1;
        }
    }
}

#[inline(always)]
fn table(slots: &[TableSlot; 4], slot: usize) -> Option<&HuffmanTable> {
    slots.get(slot)?.as_ref()?.as_deref()
}

/// Adds a correction bit to the magnitude of a nonzero coefficient.
fn correct(coefficient: &mut i16, bit: i16, larger: bool) {
    if larger && *coefficient & bit == 0 {
        let step = if *coefficient >= 0 { bit } else { -bit };
        *coefficient = coefficient.wrapping_add(step);
    }
}
