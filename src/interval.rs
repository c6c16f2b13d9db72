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

/// A group of items that belong together: the sum of their scores, and their number.
pub type Cluster = (f64, u64);

/// Returns the percentile bootstrap interval of the mean over items that come in clusters, which
/// are resampled as wholes. `None` without items.
pub fn cluster_bootstrap(clusters: &[Cluster], seed: Seed) -> Option<(f64, f64)> {
    resample(&[clusters], seed, |sums| {
        let (sum, count) = sums.iter().fold((0.0, 0), |(sum, count), cluster| (sum + cluster.0, count + cluster.1));
        (count > 0).then(|| sum / count as f64)
    })
}

/// Returns the percentile bootstrap interval of the plain mean of the strata's means; values are
/// resampled within each stratum. `None` if a stratum is empty or there are none.
pub fn stratified_bootstrap(strata: &[Vec<f64>], seed: Seed) -> Option<(f64, f64)> {
    let strata: Vec<Vec<Cluster>> =
        strata.iter().map(|values| values.iter().map(|&value| (value, 1)).collect()).collect();
    let slices: Vec<&[Cluster]> = strata.iter().map(Vec::as_slice).collect();
    resample(&slices, seed, |sums| {
        let means = sums.iter().map(|&(sum, count)| (count > 0).then(|| sum / count as f64));
        let sum = means.sum::<Option<f64>>()?;
        (!sums.is_empty()).then(|| sum / sums.len() as f64)
    })
}

/// Resamples the clusters of each stratum with replacement, and returns the 2.5 % and 97.5 % points
/// of a statistic of the strata's sums and numbers.
fn resample(strata: &[&[Cluster]], seed: Seed, statistic: impl Fn(&[Cluster]) -> Option<f64>) -> Option<(f64, f64)> {
    let most = strata.iter().map(|clusters| clusters.len()).max()?;
    let mut bytes = vec![0; most * size_of::<u64>()];
    let mut values = Vec::with_capacity(RESAMPLES);
    for round in 0..RESAMPLES {
        let mut sums = Vec::with_capacity(strata.len());
        for (number, clusters) in strata.iter().enumerate() {
            let stream = seed.stream("cluster bootstrap", &number.to_string(), round as u64);
            let bytes = &mut bytes[..clusters.len() * size_of::<u64>()];
            stream.fill(0, bytes);
            let mut total = (0.0, 0);
            for word in bytes.chunks_exact(size_of::<u64>()) {
                // The high half of a product: at most 2^-44 from uniform for a million clusters.
                let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
                let (sum, count) = clusters[((u128::from(word) * clusters.len() as u128) >> 64) as usize];
                total = (total.0 + sum, total.1 + count);
            }
            sums.push(total);
        }
        values.push(statistic(&sums)?);
    }
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values[((share * RESAMPLES as f64) as usize).min(RESAMPLES - 1)];
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

    #[test]
    fn clusters_widen_the_interval_by_the_root_of_their_size() {
        let items: Vec<Cluster> = (0..2000).map(|i| (f64::from(u8::from(i % 2 == 0)), 1)).collect();
        let clusters: Vec<Cluster> = (0..400).map(|i| (5.0 * f64::from(u8::from(i % 2 == 0)), 5)).collect();
        let width = |clusters: &[Cluster]| {
            let (low, high) = cluster_bootstrap(clusters, Seed(3)).unwrap();
            assert!(low < 0.5 && high > 0.5);
            high - low
        };
        let ratio = width(&clusters) / width(&items);
        // With 1,000 resamples a width has a standard error of 3 %: three of them for the ratio.
        assert!((ratio - 5f64.sqrt()).abs() < 0.3, "{ratio}");
        assert_eq!(cluster_bootstrap(&[], Seed(3)), None);
    }

    #[test]
    fn strata_of_different_sizes_have_the_same_weight() {
        let strata = vec![vec![1.0; 10], vec![0.0; 1000]];
        assert_eq!(stratified_bootstrap(&strata, Seed(3)), Some((0.5, 0.5)));
        assert_eq!(stratified_bootstrap(&[], Seed(3)), None);
        assert_eq!(stratified_bootstrap(&[vec![1.0], vec![]], Seed(3)), None);
    }
}
