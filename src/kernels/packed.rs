//! A weight matrix laid out for the matrix product: panels of [`PANEL`] outputs, inputs running down the panel.

use rayon::prelude::*;

use super::aligned::AlignedBuffer;

/// Outputs in a panel: two AVX-512 registers, four AVX2 registers.
pub const PANEL: usize = 32;

/// Floats below which another thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 16;

/// A weight `[outputs, inputs]` as panels: element `(n, k)` is at panel `n / PANEL`, row `k`, lane `n % PANEL`.
/// The last panel is filled up with zeros.
#[derive(Debug, Default)]
pub struct PackedMatrix {
    outputs: usize,
    inputs: usize,
    panels: AlignedBuffer,
}

impl PackedMatrix {
    /// Packs a row-major weight `[outputs, inputs]`.
    pub fn pack(weight: &[f32], outputs: usize, inputs: usize) -> Self {
        Self::pack_into(AlignedBuffer::default(), weight, outputs, inputs)
    }

    /// The same in memory that is no longer needed.
    pub fn pack_into(memory: AlignedBuffer, weight: &[f32], outputs: usize, inputs: usize) -> Self {
        debug_assert_eq!(weight.len(), outputs * inputs, "a weight has outputs x inputs elements");
        Self::filled(memory, outputs, inputs, |p, panel| {
            let rows = weight[p * PANEL * inputs..].chunks(PANEL * inputs).next().unwrap_or_default();
            pack_panel(panel, rows, inputs);
        })
    }

    /// Packs the transpose of a matrix `[inputs, outputs]` whose rows are `stride` apart.
    pub fn pack_transposed(matrix: &[f32], stride: usize, inputs: usize, outputs: usize) -> Self {
        Self::pack_transposed_into(AlignedBuffer::default(), matrix, stride, inputs, outputs)
    }

    /// The same in memory that is no longer needed.
    pub fn pack_transposed_into(
        memory: AlignedBuffer,
        matrix: &[f32],
        stride: usize,
        inputs: usize,
        outputs: usize,
    ) -> Self {
        Self::filled(memory, outputs, inputs, |p, panel| {
            let width = PANEL.min(outputs - p * PANEL);
            for (lanes, row) in panel.as_chunks_mut::<PANEL>().0.iter_mut().zip(matrix.chunks(stride)) {
                let row = &row[p * PANEL..][..width];
                match row.first_chunk::<PANEL>() {
                    Some(row) => *lanes = *row,
                    None => lanes[..width].copy_from_slice(row),
                }
            }
        })
    }

    /// Has `fill` write each panel's outputs; large matrices are shared out to the threads of the pool.
    fn filled(memory: AlignedBuffer, outputs: usize, inputs: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        let mut panels = memory.resized(outputs.div_ceil(PANEL) * PANEL * inputs);
        let panel = PANEL * inputs;
        let all = panels.as_mut_slice();
        if !outputs.is_multiple_of(PANEL)
            && let Some(last) = all.len().checked_sub(panel)
        {
            all[last..].fill(0.0);
        }
        if all.len() < WORTH_A_THREAD || rayon::current_num_threads() == 1 {
            all.chunks_exact_mut(panel.max(1)).enumerate().for_each(|(p, panel)| fill(p, panel));
        } else {
            all.par_chunks_exact_mut(panel).enumerate().for_each(|(p, panel)| fill(p, panel));
        }
        Self { outputs, inputs, panels }
    }

    /// The memory, for another.
    pub fn into_memory(self) -> AlignedBuffer {
        self.panels
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
