//! The weights of Pillow's resampling filters, in its fixed point.
//!
//! Source: `precompute_coeffs` and `normalize_coeffs_8bpc` of `Resample.c` in Pillow 13. FilterWeights are computed in f64,
//! normalised, and rounded to integers of 22 fractional bits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// `32 - 8 - 2`: 8 bits are the pixel, 2 are room for the negative lobes.
pub(super) const PRECISION_BITS: u32 = 32 - 8 - 2;
/// The weights of an output are padded with zeros to a multiple of this.
const LANES: usize = 8;

/// A resampling filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Cubic convolution with a = -0.5, radius 2.
    Bicubic,
    /// Sinc windowed by a wider sinc, radius 3.
    Lanczos3,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Lanczos3 => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Bicubic => bicubic(x.abs()),
            Self::Lanczos3 if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos3 => 0.0,
        }
    }
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// The weights of every output position of one pass.
pub(super) struct FilterWeights {
    /// First input of each output.
    starts: Vec<usize>,
    /// Number of inputs of each output.
    counts: Vec<usize>,
    /// Room of one output in `fixed`.
    stride: usize,
    fixed: Vec<i32>,
}

impl FilterWeights {
    fn new(input: usize, output: usize, filter: Filter) -> Self {
        let scale = input as f64 / output as f64;
        // antialiasing: shrinking widens the filter
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let stride = (support.ceil() as usize * 2 + 1).min(input).next_multiple_of(LANES);
        let inverse = 1.0 / filter_scale;
        let (mut starts, mut counts) = (Vec::with_capacity(output), Vec::with_capacity(output));
        let mut fixed = vec![0; output * stride];
        let mut row = Vec::with_capacity(stride);
        for (position, fixed) in fixed.chunks_exact_mut(stride).enumerate() {
            let center = (position as f64 + 0.5) * scale;
            // truncation, as a cast in C
            let start = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            row.clear();
            row.extend((start..end).map(|x| filter.weight((x as f64 - center + 0.5) * inverse)));
            let sum: f64 = row.iter().sum();
            for (fixed, weight) in fixed.iter_mut().zip(&row) {
                let weight = if sum == 0.0 { *weight } else { *weight / sum };
                let scaled = weight * f64::from(1 << PRECISION_BITS);
                *fixed = (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32;
            }
            starts.push(start);
            counts.push(end - start);
        }
        Self { starts, counts, stride, fixed }
    }

    /// The weights for resizing `input` to `output` pixels, remembered: a data set's images share few sizes, and computing
    /// the weights of a small image costs as much as using them.
    pub(super) fn of(input: usize, output: usize, filter: Filter) -> Rc<Self> {
        type Remembered = HashMap<(usize, usize, Filter), Rc<FilterWeights>>;
        /// The most weights of one set that is kept, and the most sets: 8 MB a thread.
        const MOST: (usize, usize) = (8192, 256);
        thread_local!(static REMEMBERED: RefCell<Remembered> = RefCell::default());
        REMEMBERED.with_borrow_mut(|remembered| {
            if let Some(weights) = remembered.get(&(input, output, filter)) {
                return Rc::clone(weights);
            }
            let weights = Rc::new(Self::new(input, output, filter));
            if weights.fixed.len() <= MOST.0 {
                if remembered.len() >= MOST.1 {
                    remembered.clear();
                }
                remembered.insert((input, output, filter), Rc::clone(&weights));
            }
            weights
        })
    }

    /// The inputs that any output uses.
    pub(super) fn used(&self) -> Range<usize> {
        let first = self.starts.first().copied().unwrap_or(0);
        first..self.starts.last().zip(self.counts.last()).map_or(0, |(start, count)| start + count)
    }

    /// The number of outputs.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The inputs of an output, and their weights.
    #[inline(always)]
    pub(super) fn of_output(&self, position: usize) -> (Range<usize>, &[i32]) {
        let (start, count) = (self.starts[position], self.counts[position]);
        (start..start + count, &self.fixed[position * self.stride..][..count])
    }

    /// The same, padded with weights of zero to a multiple of the lanes.
    #[inline(always)]
    pub(super) fn padded(&self, position: usize) -> (Range<usize>, &[i32]) {
        let start = self.starts[position];
        (start..start + self.stride, &self.fixed[position * self.stride..][..self.stride])
    }

    /// How far the padding may reach past the inputs.
    pub(super) fn padding(&self) -> usize {
        self.stride
    }
}
