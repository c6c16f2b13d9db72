//! Panel packing: the layout of a weight matrix for the GEMM's micro-kernel, panels of [`PANEL`]
//! outputs with the inputs running down the panel.

use rayon::prelude::*;

use super::aligned::AlignedBuffer;

/// Outputs per panel: two AVX-512 registers, four AVX2 registers.
pub const PANEL: usize = 32;

/// Number of floats below which another thread costs more than it saves.
const MIN_FLOATS_PER_THREAD: usize = 1 << 16;

/// Rows that are packed at a time: as many streams as a processor's prefetcher follows.
const RUN: usize = 16;

/// A weight `[outputs, inputs]` as panels `[panels, inputs, PANEL]`; the last panel is padded with
/// zeros. Element `(n, k)` is in panel `n / PANEL`, row `k`, lane `n % PANEL`.
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

    /// Packs as [`pack`](Self::pack) does, into the memory of a buffer.
    pub fn pack_into(memory: AlignedBuffer, weight: &[f32], outputs: usize, inputs: usize) -> Self {
        debug_assert_eq!(weight.len(), outputs * inputs, "a weight has outputs x inputs elements");
        Self::from_panels(memory, outputs, inputs, |first, panels| {
            let rows = weight[first * PANEL * inputs..].chunks((PANEL * inputs).max(1));
            panels
                .chunks_exact_mut((PANEL * inputs).max(1))
                .zip(rows)
                .for_each(|(panel, rows)| pack_panel(panel, rows, inputs));
        })
    }

    /// Packs the transpose of a matrix `[inputs, outputs]` whose rows are `stride` floats apart.
    pub fn pack_transposed(matrix: &[f32], stride: usize, inputs: usize, outputs: usize) -> Self {
        Self::pack_transposed_into(AlignedBuffer::default(), matrix, stride, inputs, outputs)
    }

    /// Packs as [`pack_transposed`](Self::pack_transposed) does, into the memory of a buffer.
    pub fn pack_transposed_into(
        memory: AlignedBuffer,
        matrix: &[f32],
        stride: usize,
        inputs: usize,
        outputs: usize,
    ) -> Self {
        Self::from_panels(memory, outputs, inputs, |first, panels| {
            let panel = PANEL * inputs;
            // A few rows at a time, from end to end, read the matrix page by page; one panel after
            // the other would read a line or two of every page, once per panel.
            for (block, rows) in matrix.chunks(RUN * stride).take(inputs.div_ceil(RUN)).enumerate() {
                for (p, panel) in panels.chunks_exact_mut(panel).enumerate() {
                    let column = (first + p) * PANEL;
                    let width = PANEL.min(outputs - column);
                    let lanes = panel[block * RUN * PANEL..].as_chunks_mut::<PANEL>().0;
                    for (lanes, row) in lanes.iter_mut().zip(rows.chunks(stride)) {
                        let row = &row[column..][..width];
                        match row.first_chunk::<PANEL>() {
                            Some(row) => *lanes = *row,
                            None => lanes[..width].copy_from_slice(row),
                        }
                    }
                }
            }
        })
    }

    /// Calls `fill(first panel, panels)` to write the panels; those of large matrices are shared
    /// among the threads of the pool.
    fn from_panels(
        memory: AlignedBuffer,
        outputs: usize,
        inputs: usize,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        let mut panels = memory.resized(outputs.div_ceil(PANEL) * PANEL * inputs);
        let panel = PANEL * inputs;
        let all = &mut panels[..];
        if !outputs.is_multiple_of(PANEL)
            && let Some(last) = all.len().checked_sub(panel)
        {
            all[last..].fill(0.0);
        }
        let threads = rayon::current_num_threads();
        if all.len() < MIN_FLOATS_PER_THREAD || threads == 1 {
            fill(0, all);
        } else {
            let share = outputs.div_ceil(PANEL).div_ceil(threads);
            all.par_chunks_mut(share * panel).enumerate().for_each(|(i, panels)| fill(i * share, panels));
        }
        Self { outputs, inputs, panels }
    }

    /// Returns the buffer, to be reused.
    pub fn into_memory(self) -> AlignedBuffer {
        self.panels
    }

    /// Returns the number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Returns the number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Returns the panels, `[panels, inputs, PANEL]`.
    pub fn panels(&self) -> &[f32] {
        &self.panels
    }

    /// Copies row `n` of the weight to `row`, `[inputs]`.
    pub fn copy_row(&self, n: usize, row: &mut [f32]) {
        let panel = &self.panels()[(n / PANEL) * PANEL * self.inputs..][..PANEL * self.inputs];
        for (value, lanes) in row.iter_mut().zip(panel.chunks_exact(PANEL)) {
            *value = lanes[n % PANEL];
        }
    }
}

/// Transposes up to [`PANEL`] rows of a weight into a panel, in blocks that fit the L1 cache.
pub(super) fn pack_panel(panel: &mut [f32], rows: &[f32], inputs: usize) {
    const BLOCK: usize = 64;
    /// Side of the square that is transposed in registers.
    const SIDE: usize = 4;
    let (lanes, _) = panel.as_chunks_mut::<PANEL>();
    let count = rows.len() / inputs.max(1);
    debug_assert!(count <= PANEL, "a panel has {PANEL} outputs");
    for from in (0..inputs).step_by(BLOCK) {
        let depth = BLOCK.min(inputs - from);
        let lanes = &mut lanes[from..from + depth];
        let (whole, rest) = lanes.split_at_mut(depth / SIDE * SIDE);
        for n in (0..count / SIDE * SIDE).step_by(SIDE) {
            for (k, lanes) in (from..).step_by(SIDE).zip(whole.chunks_exact_mut(SIDE)) {
                let mut square = [[0f32; SIDE]; SIDE];
                for (i, line) in square.iter_mut().enumerate() {
                    line.copy_from_slice(&rows[(n + i) * inputs + k..][..SIDE]);
                }
                for (j, lanes) in lanes.iter_mut().enumerate() {
                    lanes[n..n + SIDE].iter_mut().zip(&square).for_each(|(lane, line)| *lane = line[j]);
                }
            }
            for (k, lanes) in (from + depth / SIDE * SIDE..).zip(rest.iter_mut()) {
                (n..n + SIDE).for_each(|n| lanes[n] = rows[n * inputs + k]);
            }
        }
        for n in count / SIDE * SIDE..count {
            for (k, lanes) in (from..).zip(whole.iter_mut().chain(rest.iter_mut())) {
                lanes[n] = rows[n * inputs + k];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_a_transpose_reads_only_the_given_rows() {
        for (inputs, outputs, stride) in
            [(1, 1, 1), (3, 5, 7), (16, 32, 32), (17, 33, 40), (48, 70, 70), (67, 130, 131)]
        {
            let matrix: Vec<f32> = (0..(inputs + 40) * stride).map(|i| i as f32).collect();
            let packed = PackedMatrix::pack_transposed(&matrix, stride, inputs, outputs);
            let rows: Vec<f32> = (0..outputs).flat_map(|n| (0..inputs).map(move |k| (k * stride + n) as f32)).collect();
            let same = PackedMatrix::pack(&rows, outputs, inputs);
            let mut row = vec![0.0; inputs];
            for n in 0..outputs {
                packed.copy_row(n, &mut row);
                assert_eq!(row, rows[n * inputs..][..inputs], "row {n} of {outputs} x {inputs}");
            }
            assert_eq!(packed.panels(), same.panels(), "{outputs} x {inputs}");
        }
    }
}
