//! 95 % confidence intervals of proportions and means.

use std::num::NonZeroU64;

use crate::random::Seed;

/// The 97.5 % point of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;
/// Number of bootstrap resamples.
const RESAMPLES: usize = 1000;

/// Returns Wilson's score interval (1927) of the proportion `hits` of `n`. `None` if `n` is 0.
pub fn wilson(hits: u64, n: u64) -> Option<(f64, f64)> {
    if n == 0 {
        return None;
    }
    let (n, p) = (n as f64, hits as f64 / n as f64);
    let z2 = Z * Z;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    // At the ends the interval touches 0 and 1 exactly; the above may miss them by a last bit.
    let low = if hits == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if p == 1.0 { 1.0 } else { (centre + half).min(1.0) };
    Some((low, high))
}

/// Returns the percentile bootstrap interval of the mean of independent values, such as the
/// proportion correct of each item. Answers to one item are correlated, so items are resampled.
/// `None` without values.
pub fn bootstrap(values: &[f64], seed: Seed) -> Option<(f64, f64)> {
    let n = NonZeroU64::new(values.len() as u64)?;
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|round| {
            let stream = seed.stream("bootstrap", "", round as u64);
            let sum: f64 = (0..n.get()).map(|i| values[stream.below(i, n) as usize]).sum();
            sum / n.get() as f64
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| means[((share * RESAMPLES as f64) as usize).min(RESAMPLES - 1)];
    Some((at(0.025), at(0.975)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_agrees_with_statsmodels_and_is_exact_at_its_ends() {
        // 3 of 10: statsmodels' proportion_confint(3, 10, method="wilson").
        let (low, high) = wilson(3, 10).unwrap();
        assert!((low - 0.107_789).abs() < 1e-5 && (high - 0.603_222).abs() < 1e-5, "{low} {high}");
        for n in [5, 24, 600] {
            assert_eq!((wilson(0, n).unwrap().0, wilson(n, n).unwrap().1), (0.0, 1.0));
        }
        assert_eq!(wilson(0, 0), None);
    }

    #[test]
    fn the_bootstrap_agrees_with_the_normal_interval_on_many_values() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(u8::from(i % 4 == 0))).collect();
        let (low, high) = bootstrap(&values, Seed(1)).unwrap();
        let half = Z * (0.25f64 * 0.75 / 400.0).sqrt();
        assert!((low - (0.25 - half)).abs() < 0.01 && (high - (0.25 + half)).abs() < 0.01, "{low} {high}");
        assert_eq!(bootstrap(&values, Seed(1)), Some((low, high)));
        assert_eq!(bootstrap(&[], Seed(1)), None);
    }
}
