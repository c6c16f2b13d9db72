//! Upsampling of a component to full size, as libjpeg's "fancy" upsampling.
//!
//! Halved sides are doubled by a triangle filter (3/4 of the nearer sample, 1/4 of the farther)
//! whose rounding alternates to avoid a bias; at the borders the outermost sample is repeated. For
//! other factors, and for doubling the width of components that are at most two samples wide,
//! samples are repeated.

use super::frame::{Component, Frame};

/// Samples of a component, 8 lines per row of blocks.
pub(super) struct Plane {
    pub(super) stride: usize,
    pub(super) samples: Vec<u8>,
}

impl Plane {
    fn line(&self, y: usize) -> &[u8] {
        &self.samples[y * self.stride..(y + 1) * self.stride]
    }
}

/// Method by which a component is upsampled.
#[derive(Clone, Copy)]
enum UpsamplingMethod {
    AsIs,
    DoubleAcross,
    DoubleDown,
    DoubleBoth,
    Repeat { across: usize, down: usize },
}

impl UpsamplingMethod {
    fn for_component(component: &Component, frame: &Frame) -> Self {
        let (across, down) = (frame.max_h / component.h, frame.max_v / component.v);
        let wide = component.width > 2;
        match (across, down) {
            (1, 1) => Self::AsIs,
            (2, 1) if wide => Self::DoubleAcross,
            (1, 2) => Self::DoubleDown,
            (2, 2) if wide => Self::DoubleBoth,
            _ => Self::Repeat { across, down },
        }
    }
}

/// Computes the full-size lines of a component.
pub(super) struct Upsampler<'a> {
    plane: &'a Plane,
    width: usize,
    height: usize,
    method: UpsamplingMethod,
    /// A line between the vertical and the horizontal step, with one more value at either end.
    sums: Vec<u16>,
    output: Vec<u8>,
}

impl<'a> Upsampler<'a> {
    pub(super) fn new(plane: &'a Plane, component: &Component, frame: &Frame) -> Self {
        let (width, height) = (component.width, component.height);
        let method = UpsamplingMethod::for_component(component, frame);
        // For an odd width the last value is not used.
        let output = vec![0; width * (frame.max_h / component.h)];
        Self { plane, width, height, method, sums: vec![0; width + 2], output }
    }

    /// Returns the full-size line `y`.
    #[inline(always)]
    pub(super) fn line(&mut self, y: usize) -> &[u8] {
        match self.method {
            UpsamplingMethod::AsIs => return &self.plane.line(y)[..self.width],
            UpsamplingMethod::DoubleAcross => {
                let line = &self.plane.line(y)[..self.width];
                for (sum, sample) in self.sums[1..].iter_mut().zip(line) {
                    *sum = u16::from(*sample);
                }
                self.double_across(2, 1);
            }
            UpsamplingMethod::DoubleDown => {
                let (near, far) = self.nearest(y);
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                for ((value, near), far) in self.output.iter_mut().zip(near).zip(far) {
                    *value = ((u16::from(*near) * 3 + u16::from(*far) + bias) >> 2) as u8;
                }
            }
            UpsamplingMethod::DoubleBoth => {
                let (near, far) = self.nearest(y);
                for ((sum, near), far) in self.sums[1..].iter_mut().zip(near).zip(far) {
                    *sum = u16::from(*near) * 3 + u16::from(*far);
                }
                self.double_across(4, 8);
            }
            UpsamplingMethod::Repeat { across, down } => {
                let line = self.plane.line(y / down);
                for (values, sample) in self.output.chunks_exact_mut(across).zip(line) {
                    values.fill(*sample);
                }
            }
        }
        &self.output
    }

    /// Returns the line of samples nearest to the full-size line `y`, and the second nearest.
    #[inline(always)]
    fn nearest(&self, y: usize) -> (&'a [u8], &'a [u8]) {
        let near = y / 2;
        let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(self.height - 1) };
        (&self.plane.line(near)[..self.width], &self.plane.line(far)[..self.width])
    }

    /// Doubles the width of `sums`, which are samples times `1 << (bits - 2)`; `left_bias` rounds
    /// the left one of each pair.
    #[inline(always)]
    fn double_across(&mut self, bits: u32, left_bias: u16) {
        let width = self.width;
        self.sums[0] = self.sums[1];
        self.sums[width + 1] = self.sums[width];
        let right_bias = (1 << (bits - 1)) - u16::from(bits == 4);
        for (values, sums) in self.output.chunks_exact_mut(2).zip(self.sums.windows(3)) {
            values[0] = ((sums[1] * 3 + sums[0] + left_bias) >> bits) as u8;
            values[1] = ((sums[1] * 3 + sums[2] + right_bias) >> bits) as u8;
        }
    }
}
