//! The size to which an image is resized before it is cut into patches.
//!
//! Source: `smart_resize` of Qwen2-VL's image processor in transformers.

use thiserror::Error;

/// Largest ratio of the sides.
const MAX_ASPECT_RATIO: f64 = 200.0;

/// Largest number of pixels of a resized image: as many as an image may have, and five times the
/// maximum of published checkpoints. More would exceed any memory, and the vision tower would take
/// hours.
pub const MAX_RESIZED_PIXELS: u64 = 64 << 20;

/// Smallest and largest number of pixels of a resized image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelBudget {
    /// Smaller images are enlarged.
    pub min_pixels: u64,
    /// Larger images are shrunk.
    pub max_pixels: u64,
}

/// A reason why an image of this size cannot be resized within the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SmartResizeError {
    /// The ratio of the sides is above 200.
    #[error("{width}x{height} pixels: one side is more than 200 times the other; crop the image")]
    AspectRatio {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A side, the factor or the budget is zero.
    #[error("{width}x{height} pixels by a factor of {factor}: neither may be zero")]
    Zero {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Factor that the sides must be a multiple of.
        factor: u32,
    },
    /// The budget leads to more than [`MAX_RESIZED_PIXELS`].
    #[error(
        "{width}x{height} pixels would be resized to {pixels} pixels, at most 67108864 are supported: lower min_pixels or max_pixels"
    )]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Number of pixels after resizing.
        pixels: u64,
    },
}

/// Returns the (width, height) to resize to: multiples of `factor`, within the budget, near the
/// aspect ratio.
///
/// Sides are `round(side / factor) * factor`, ties to even. Above `max_pixels` they are `floor(side
/// / beta / factor) * factor` with `beta = sqrt(w * h / max)`, at least one factor; below
/// `min_pixels` they are `ceil(side * beta / factor) * factor` with `beta = sqrt(min / (w * h))`.
///
/// # Errors
/// A side or factor of zero, a ratio of the sides above 200, or a result of more than
/// [`MAX_RESIZED_PIXELS`].
pub fn smart_resize(width: u32, height: u32, factor: u32, budget: PixelBudget) -> Result<(u32, u32), SmartResizeError> {
    if width == 0 || height == 0 || factor == 0 {
        return Err(SmartResizeError::Zero { width, height, factor });
    }
    let (w, h, f) = (f64::from(width), f64::from(height), f64::from(factor));
    if w.max(h) / w.min(h) > MAX_ASPECT_RATIO {
        return Err(SmartResizeError::AspectRatio { width, height });
    }
    let nearest = |side: f64| (side / f).round_ties_even() * f;
    let (out_w, out_h) = (nearest(w), nearest(h));
    let (min, max) = (budget.min_pixels as f64, budget.max_pixels as f64);
    let (out_w, out_h) = if out_w * out_h > max {
        let beta = (h * w / max).sqrt();
        let shrunk = |side: f64| ((side / beta / f).floor() * f).max(f);
        (shrunk(w), shrunk(h))
    } else if out_w * out_h < min {
        let beta = (min / (h * w)).sqrt();
        let grown = |side: f64| (side * beta / f).ceil() * f;
        (grown(w), grown(h))
    } else {
        (out_w, out_h)
    };
    // Without a lower bound a side below half a factor would become zero.
    let (out_w, out_h) = (out_w.max(f), out_h.max(f));
    if out_w * out_h > MAX_RESIZED_PIXELS as f64 {
        return Err(SmartResizeError::TooLarge { width, height, pixels: (out_w * out_h) as u64 });
    }
    Ok((out_w as u32, out_h as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: PixelBudget = PixelBudget { min_pixels: 56 * 56, max_pixels: 28 * 28 * 1280 };

    #[test]
    fn ties_go_to_the_even_multiple() {
        assert_eq!(smart_resize(70, 98, 28, BUDGET), Ok((56, 112)));
        assert_eq!(smart_resize(112, 112, 28, BUDGET), Ok((112, 112)));
    }

    #[test]
    fn the_budget_is_a_lower_and_an_upper_bound() {
        assert_eq!(smart_resize(1, 1, 28, BUDGET), Ok((56, 56)));
        let (width, height) = smart_resize(8000, 6000, 28, BUDGET).unwrap();
        assert!(u64::from(width) * u64::from(height) <= BUDGET.max_pixels);
        assert!(smart_resize(2001, 10, 28, BUDGET).unwrap_err().to_string().contains("200 times"));
        assert!(smart_resize(2000, 10, 28, BUDGET).is_ok());
        assert!(smart_resize(0, 10, 28, BUDGET).is_err());
    }

    #[test]
    fn budgets_beyond_any_memory_are_errors() {
        let budget = |min_pixels, max_pixels| PixelBudget { min_pixels, max_pixels };
        for absurd in [budget(1 << 27, 1 << 28), budget(1_000_000_000_000_000, u64::MAX), budget(u64::MAX, u64::MAX)] {
            let refused = smart_resize(30, 20, 28, absurd).unwrap_err().to_string();
            assert!(refused.contains("30x20") && refused.contains("min_pixels"), "{refused}");
        }
        // A budget without an upper bound is accepted for an image that is small enough.
        assert_eq!(smart_resize(300, 200, 28, budget(0, u64::MAX)), Ok((308, 196)));
        assert!(smart_resize(60_000, 40_000, 28, budget(0, u64::MAX)).is_err());
    }
}
