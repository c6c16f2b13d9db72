//! A weight matrix laid out for the matrix product: panels of [`PANEL`] outputs, inputs running down the panel.

use super::aligned::AlignedBuffer;

/// Outputs in a panel: two AVX-512 registers, four AVX2 registers.
pub const PANEL: usize = 32;

/// A weight `[outputs, inputs]` as panels: element `(n, k)` is at panel `n / PANEL`, row `k`, lane `n % PANEL`.
/// The last panel is filled up with zeros.
#[derive(Debug)]
pub struct PackedMatrix {
    outputs: usize,
    inputs: usize,
    panels: AlignedBuffer,
}

impl PackedMatrix {
    /// Packs a row-major weight `[outputs, inputs]`.
    pub fn pack(weight: &[f32], outputs: usize, inputs: usize) -> Self {
        debug_assert_eq!(weight.len(), outputs * inputs, "a weight has outputs x inputs elements");
        let mut panels = AlignedBuffer::zeroed(outputs.div_ceil(PANEL) * PANEL * inputs);
        let rows = weight.chunks(PANEL * inputs);
        for (panel, rows) in panels.as_mut_slice().chunks_exact_mut(PANEL * inputs).zip(rows) {
            pack_panel(panel, rows, inputs);
        }
        Self { outputs, inputs, panels }
    }

    /// Packs the transpose of a matrix `[inputs, outputs]` whose rows are `stride` apart.
    pub fn pack_transposed(matrix: &[f32], stride: usize, inputs: usize, outputs: usize) -> Self {
        let mut panels = AlignedBuffer::zeroed(outputs.div_ceil(PANEL) * PANEL * inputs);
        for (p, panel) in panels.as_mut_slice().chunks_exact_mut(PANEL * inputs).enumerate() {
            let width = PANEL.min(outputs - p * PANEL);
            for (lanes, row) in panel.as_chunks_mut::<PANEL>().0.iter_mut().zip(matrix.chunks(stride)) {
                let row = &row[p * PANEL..][..width];
                match row.first_chunk::<PANEL>() {
                    Some(row) => *lanes = *row,
                    None => lanes[..width].copy_from_slice(row),
                }
            }
        }
        Self { outputs, inputs, panels }
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The panels, `[panels, inputs, PANEL]`.
    pub fn panels(&self) -> &[f32] {
        self.panels.as_slice()
    }

    /// Copies row `n` of the weight.
    pub fn copy_row(&self, n: usize, row: &mut [f32]) {
        let panel = &self.panels()[(n / PANEL) * PANEL * self.inputs..][..PANEL * self.inputs];
        for (value, lanes) in row.iter_mut().zip(panel.chunks_exact(PANEL)) {
            *value = lanes[n % PANEL];
        }
    }
}

/// Transposes up to [`PANEL`] rows of a weight into a panel, in blocks that stay in the first-level cache.
pub(super) fn pack_panel(panel: &mut [f32], rows: &[f32], inputs: usize) {
    const BLOCK: usize = 64;
    for (n, row) in rows.chunks_exact(inputs).enumerate() {
        debug_assert!(n < PANEL, "a panel has {PANEL} outputs");
        for (block, values) in row.chunks(BLOCK).enumerate() {
            let lanes = &mut panel[block * BLOCK * PANEL..];
            for (value, lane) in values.iter().zip(lanes.chunks_exact_mut(PANEL)) {
                lane[n] = *value;
            }
        }
    }
}
