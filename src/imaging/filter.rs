//! Pillow's resampling filters and their fixed-point weights.
//!
//! Source: `precompute_coeffs` and `normalize_coeffs_8bpc` of `Resample.c` in Pillow 13. Weights
//! are computed in f64, normalised, and rounded to integers with 22 fractional bits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// Fractional bits of the weights: of 32 bits, 8 are the pixel and 2 are for negative lobes.
pub(super) const PRECISION_BITS: u32 = 32 - 8 - 2;
/// The weights of an output pixel are padded with zeros to a multiple of this.
const LANES: usize = 8;

/// A resampling filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Cubic convolution with a = -0.5, radius 2.
    Bicubic,
    /// Sinc windowed by a wider sinc (Lanczos), radius 3.
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

/// The weights of all output positions of one pass.
pub(super) struct FilterWeights {
    /// First input position of each output position.
    starts: Vec<usize>,
    /// Number of inputs of each output position.
    counts: Vec<usize>,
    /// Number of entries of `fixed` per output position.
    stride: usize,
    /// Fixed-point weights, padded with zeros to `stride` per output position.
    fixed: Vec<i32>,
}

impl FilterWeights {
    fn new(input: usize, output: usize, filter: Filter) -> Self {
        let scale = input as f64 / output as f64;
        // Antialiasing: shrinking widens the filter.
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let stride = (support.ceil() as usize * 2 + 1).min(input).next_multiple_of(LANES);
        let inverse = 1.0 / filter_scale;
        let (mut starts, mut counts) = (Vec::with_capacity(output), Vec::with_capacity(output));
        let mut fixed = vec![0; output * stride];
        let mut row = Vec::with_capacity(stride);
        for (position, fixed) in fixed.chunks_exact_mut(stride).enumerate() {
            let center = (position as f64 + 0.5) * scale;
            // Truncation, as by a cast in C.
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

    /// Returns the weights for resizing `input` to `output` pixels, from a cache per thread: the
    /// images of a data set share few sizes, and the weights of a small image cost as much to
    /// compute as to use.
    pub(super) fn cached(input: usize, output: usize, filter: Filter) -> Rc<Self> {
        type Cache = HashMap<(usize, usize, Filter), Rc<FilterWeights>>;
        /// Largest number of weights of a cached entry, and of entries: 8 MB per thread.
        const CACHE_LIMITS: (usize, usize) = (8192, 256);
        thread_local!(static CACHE: RefCell<Cache> = RefCell::default());
        CACHE.with_borrow_mut(|cache| {
            if let Some(weights) = cache.get(&(input, output, filter)) {
                return Rc::clone(weights);
            }
            let weights = Rc::new(Self::new(input, output, filter));
            if weights.fixed.len() <= CACHE_LIMITS.0 {
                if cache.len() >= CACHE_LIMITS.1 {
                    cache.clear();
                }
                cache.insert((input, output, filter), Rc::clone(&weights));
            }
            weights
        })
    }

    /// Returns the range of inputs that are used by any output.
    pub(super) fn used(&self) -> Range<usize> {
        let first = self.starts.first().copied().unwrap_or(0);
        first..self.starts.last().zip(self.counts.last()).map_or(0, |(start, count)| start + count)
    }

    /// Returns the number of outputs.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Returns the inputs of an output and their weights.
    #[inline(always)]
    pub(super) fn at(&self, position: usize) -> (Range<usize>, &[i32]) {
        let (start, count) = (self.starts[position], self.counts[position]);
        (start..start + count, &self.fixed[position * self.stride..][..count])
    }

    /// Returns the inputs of an output and their weights, padded with zero weights to `stride`.
    #[inline(always)]
    pub(super) fn padded_at(&self, position: usize) -> (Range<usize>, &[i32]) {
        let start = self.starts[position];
        (start..start + self.stride, &self.fixed[position * self.stride..][..self.stride])
    }

    /// Returns the number of values that the padding may read past the inputs.
    pub(super) fn padding(&self) -> usize {
        self.stride
    }
}
