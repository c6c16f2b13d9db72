//! Smoothing of incomplete progressive images, as in libjpeg-turbo (`decompress_smooth_data`).
//!
//! If some of the first nine AC coefficients are not yet known exactly, those that are still zero
//! are estimated from the DC values of the block and its 24 neighbours. If no AC coefficient is
//! known at all, the DC value is smoothed, too.

use super::frame::{Component, Frame};
use super::scan::{Block, Scan, ZIGZAG};

/// Number of coefficients that are tracked and smoothed, in coding order.
const SMOOTHED: usize = 10;

/// Weights of the DC values of 5x5 blocks.
type Kernel = [[i64; 5]; 5];

const ZERO: Kernel = [[0; 5]; 5];
const DC: Kernel =
    [[-2, -6, -8, -6, -2], [-6, 6, 42, 6, -6], [-8, 42, 152, 42, -8], [-6, 6, 42, 6, -6], [-2, -6, -8, -6, -2]];
const AC01: Kernel =
    [[-1, -1, 0, 1, 1], [-3, 13, 0, -13, 3], [-3, 38, 0, -38, 3], [-3, 13, 0, -13, 3], [-1, -1, 0, 1, 1]];
const AC02: Kernel = [[0; 5], [0, 2, -5, 2, 0], [1, 7, -14, 7, 1], [0, 2, -5, 2, 0], [0; 5]];
const AC03: Kernel = [[0; 5], [0, 1, 0, -1, 0], [0, 2, 0, -2, 0], [0, 1, 0, -1, 0], [0; 5]];
const AC11: Kernel = [[-1, 0, 0, 0, 1], [0, 9, 0, -9, 0], [0; 5], [0, -9, 0, 9, 0], [1, 0, 0, 0, -1]];
const AC12: Kernel = [[0; 5], [0, 1, -3, 1, 0], [0; 5], [0, -1, 3, -1, 0], [0; 5]];
const KNOWN_AC01: Kernel = [[0; 5], [0; 5], [-7, 50, 0, -50, 7], [0; 5], [0; 5]];
const KNOWN_AC02: Kernel = [[0; 5], [0; 5], [-1, 13, -24, 13, -1], [0; 5], [0; 5]];
const KNOWN_AC11: Kernel = [[0, -1, 0, 1, 0], [-1, 10, 0, -10, 1], [0; 5], [1, -10, 0, 10, -1], [0, 1, 0, -1, 0]];

/// Kernels of the AC coefficients in coding order: one if none is known, and one otherwise.
const KERNELS: [(Kernel, Kernel); SMOOTHED - 1] = [
    (AC01, KNOWN_AC01),
    (transpose(AC01), transpose(KNOWN_AC01)),
    (transpose(AC02), transpose(KNOWN_AC02)),
    (AC11, KNOWN_AC11),
    (AC02, KNOWN_AC02),
    (AC03, ZERO),
    (AC12, ZERO),
    (transpose(AC12), ZERO),
    (transpose(AC03), ZERO),
];

const fn transpose(kernel: Kernel) -> Kernel {
    let mut result = ZERO;
    let mut index = 0;
    while index < 25 {
        result[index % 5][index / 5] = kernel[index / 5][index % 5];
        index += 1;
    }
    result
}

/// Lowest known bit of each tracked coefficient: 0 if it is known exactly, -1 if it is unknown.
type KnownBits = [i32; SMOOTHED];

/// The coefficients that the scans of a progressive image have coded so far.
pub(super) struct Progress {
    /// Number of scans.
    scans: u32,
    /// Known bits of each component.
    known: Vec<KnownBits>,
    /// Known bits of each component before its last scan.
    before: Vec<KnownBits>,
    /// Last row of units for which the last scan has data.
    pub(super) last_good_row: usize,
}

impl Progress {
    pub(super) fn new(components: usize) -> Self {
        let unknown = vec![[-1; SMOOTHED]; components];
        Self { scans: 0, known: unknown.clone(), before: unknown, last_good_row: 0 }
    }

    /// Takes account of a scan.
    pub(super) fn add(&mut self, scan: &Scan) {
        self.scans += 1;
        for part in &scan.parts {
            let (known, before) = (&mut self.known[part.component], &mut self.before[part.component]);
            for index in scan.first.min(1)..SMOOTHED {
                before[index] = if self.scans > 1 { known[index] } else { 0 };
            }
            for bit in known.iter_mut().take(scan.last + 1).skip(scan.first) {
                *bit = scan.low_bit as i32;
            }
        }
    }

    /// Whether smoothing applies to an image with these quantisation tables.
    pub(super) fn is_smoothing_useful(&self, quantisation: &[Option<[u16; 64]>]) -> bool {
        let has_factors = |table: &Option<[u16; 64]>| {
            table.is_some_and(|table| ZIGZAG[..SMOOTHED].iter().all(|position| table[usize::from(*position)] != 0))
        };
        quantisation.iter().all(has_factors)
            && self.known.iter().all(|known| known[0] >= 0)
            && self.known.iter().any(|known| known[1..].iter().any(|bit| *bit != 0))
    }

    /// Smooths the blocks of component `number`.
    pub(super) fn smooth(&self, number: usize, frame: &Frame, quantisation: &[u16; 64], blocks: &mut [Block]) {
        let component = &frame.components[number];
        let dc: Vec<i64> = blocks.iter().map(|block| i64::from(block[0])).collect();
        for unit_row in 0..frame.units_high {
            let known = if unit_row > self.last_good_row && self.scans > 1 {
                &self.before[number]
            } else if unit_row > self.last_good_row {
                &[-1; SMOOTHED]
            } else {
                &self.known[number]
            };
            let is_last = unit_row + 1 == frame.units_high;
            let rest = component.blocks_high % component.v;
            let unit_blocks = if is_last && rest > 0 { rest } else { component.v };
            for block_row in 0..unit_blocks {
                let rows = neighbouring_rows(component.v, unit_row, unit_blocks, block_row, frame.units_high);
                smooth_row(component, rows, &dc, known, quantisation, blocks);
            }
        }
    }
}

/// Returns the block rows of the window around a row. The positions within the image are computed
/// as in libjpeg-turbo, also where it miscounts them in the last row of units.
fn neighbouring_rows(v: usize, unit_row: usize, unit_blocks: usize, block_row: usize, units_high: usize) -> [usize; 5] {
    let (counted, count) = (unit_row * unit_blocks + block_row, unit_blocks * units_high);
    let row = unit_row * v + block_row;
    let previous = if counted > 0 { row - 1 } else { row };
    let next = if counted + 1 < count { row + 1 } else { row };
    let before_previous = if counted > 1 { row - 2 } else { previous };
    let after_next = if counted + 2 < count { row + 2 } else { next };
    [before_previous, previous, row, next, after_next]
}

fn smooth_row(
    component: &Component,
    rows: [usize; 5],
    dc: &[i64],
    known: &KnownBits,
    quantisation: &[u16; 64],
    blocks: &mut [Block],
) {
    let wide = component.padded_wide;
    let is_ac_unknown = known[1..].iter().all(|bit| *bit == -1);
    for column in 0..component.blocks_wide {
        let columns = [-2, -1, 0, 1, 2].map(|offset| {
            let column = column.saturating_add_signed(offset);
            column.min(component.blocks_wide - 1)
        });
        let window = rows.map(|row| columns.map(|column| dc[row * wide + column]));
        let estimate = |kernel: &Kernel, position: usize, max: i32| {
            let products = kernel.as_flattened().iter().zip(window.as_flattened()).map(|(weight, dc)| weight * dc);
            let (sum, factor) = (i64::from(quantisation[0]) * products.sum::<i64>(), i64::from(quantisation[position]));
            let size = (((factor << 7) + sum.abs()) / (factor << 8)) as i32;
            (if sum < 0 { -size.min(max) } else { size.min(max) }) as i16
        };
        let block = &mut blocks[rows[2] * wide + column];
        for ((kernels, bit), position) in KERNELS.iter().zip(&known[1..]).zip(&ZIGZAG[1..]) {
            let position = usize::from(*position);
            if *bit != 0 && block[position] == 0 {
                let max = if *bit > 0 { (1 << bit) - 1 } else { i32::MAX };
                block[position] = estimate(if is_ac_unknown { &kernels.0 } else { &kernels.1 }, position, max);
            }
        }
        if is_ac_unknown {
            block[0] = estimate(&DC, 0, i32::MAX);
        }
    }
}
