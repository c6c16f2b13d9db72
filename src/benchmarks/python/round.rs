//! Rounding to decimal places.

/// Rounds to `digits` decimal places as Python's `round()` does: the exact binary value, and a tie
/// to the even digit. 2.675 becomes 2.67, because it is stored as a number slightly below.
pub fn round(x: f64, digits: usize) -> f64 {
    if !x.is_finite() {
        return x;
    }
    format!("{x:.digits$}").parse().unwrap_or(x)
}

/// Rounds as `numpy.round` does: scales, rounds to an integer with ties to even, and scales back.
/// It differs from [`round`] where scaling is inexact.
pub fn round_scaled(x: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (x * scale).round_ties_even() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Python 3.11 and numpy 2.4.
    #[test]
    fn ties_and_near_ties_follow_python() {
        let cases = [
            (0.125, 0.12),
            (0.375, 0.38),
            (0.345, 0.34),
            (2.675, 2.67),
            (1.005, 1.0),
            (-0.125, -0.12),
            (2.5, 2.5),
            (1e22, 1e22),
            (0.005, 0.01),
            (0.015, 0.01),
        ];
        for (x, rounded) in cases {
            assert_eq!(round(x, 2), rounded, "{x}");
        }
        assert_eq!((round(0.5, 0), round(1.5, 0), round(2.5, 0)), (0.0, 2.0, 2.0));
        assert!(round(f64::NAN, 2).is_nan() && round(f64::INFINITY, 2).is_infinite());
        assert_eq!((round(2.675, 2), round_scaled(2.675, 2)), (2.67, 2.68));
        assert_eq!((round_scaled(0.25, 1), round_scaled(0.35, 1)), (0.2, 0.4));
    }
}
