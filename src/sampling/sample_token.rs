//! Drawing one token from a row of logits: temperature, top-k, top-p, forbidden tokens.

use std::cmp::Ordering;

use super::options::SamplingOptions;
use crate::kernels::rowwise::shifted_exponentials;

/// A drawn token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampledToken {
    /// Token id.
    pub token: u32,
    /// Log-probability under softmax(logits / temperature) over the whole vocabulary, before top-k,
    /// top-p and forbidden tokens: the one that the trainer and [`score`](super::score) compute.
    /// With greedy decoding: at temperature 1.
    pub logprob: f32,
}

/// Draws a token; `uniform` in [0, 1) is the sample's random number for this position.
///
/// Returns `None` if the logits are not finite or every token is forbidden. Of equally likely
/// tokens the lower id comes first. `scratch` is reused between calls.
pub fn sample_token(
    logits: &[f32],
    options: &SamplingOptions,
    forbidden: &[u32],
    uniform: f64,
    scratch: &mut Vec<f32>,
) -> Option<SampledToken> {
    let greedy = options.temperature == 0.0;
    let inverse = options.inverse_temperature();
    scratch.resize(logits.len(), 0.0);
    let (largest, sum) = shifted_exponentials(logits, inverse, scratch);
    if !largest.is_finite() || !sum.is_finite() {
        return None;
    }
    forbid(scratch, forbidden, options, FORBIDDEN_WEIGHT);
    if scratch.iter().all(|weight| *weight < MIN_DISTINCT_WEIGHT) {
        // A forbidden token is so likely that the others underflow, or all are forbidden: the
        // weights are computed again without the forbidden tokens.
        let mut allowed = logits.to_vec();
        forbid(&mut allowed, forbidden, options, f32::NEG_INFINITY);
        if !shifted_exponentials(&allowed, inverse, scratch).0.is_finite() {
            return None;
        }
        forbid(scratch, forbidden, options, FORBIDDEN_WEIGHT);
    }
    let token = if greedy {
        argmax(scratch)?
    } else if options.is_plain() {
        draw_index(scratch, uniform)?
    } else {
        let candidates = top_k_top_p(scratch, options.top_k.unwrap_or(usize::MAX), options.top_p.unwrap_or(1.0));
        let weights: Vec<f32> = candidates.iter().map(|id| scratch[*id as usize]).collect();
        candidates[draw_index(&weights, uniform)? as usize]
    };
    let scaled = f64::from(logits[token as usize] * inverse) - f64::from(largest);
    Some(SampledToken { token, logprob: (scaled - sum.ln()) as f32 })
}

/// Weight below which differences between weights may be lost to underflow.
const MIN_DISTINCT_WEIGHT: f32 = 1e-30;

/// Weight of forbidden tokens, below the zeros of tokens that underflowed.
const FORBIDDEN_WEIGHT: f32 = -1.0;

/// Gives forbidden tokens this value.
pub(super) fn forbid(values: &mut [f32], forbidden: &[u32], options: &SamplingOptions, value: f32) {
    for id in forbidden.iter().chain(&options.forbidden) {
        if let Some(forbidden) = values.get_mut(*id as usize) {
            *forbidden = value;
        }
    }
}

/// Returns the index of the largest weight that is not negative, the first of equal ones.
pub(super) fn argmax(weights: &[f32]) -> Option<u32> {
    let mut best = None;
    for (id, weight) in weights.iter().enumerate() {
        if *weight >= 0.0 && best.is_none_or(|(_, w)| *weight > w) {
            best = Some((id as u32, *weight));
        }
    }
    best.map(|(id, _)| id)
}

/// Returns the index at which the cumulative sum of the weights exceeds `uniform` times their
/// total; negative weights do not count.
pub(super) fn draw_index(weights: &[f32], uniform: f64) -> Option<u32> {
    /// Number of weights whose sum is formed first, so that the search is short.
    const GROUP: usize = 32;
    let sum = |group: &[f32]| group.iter().map(|w| f64::from(w.max(0.0))).sum::<f64>();
    let sums: Vec<f64> = weights.chunks(GROUP).map(sum).collect();
    let target = uniform * sums.iter().sum::<f64>();
    let mut passed = 0.0;
    for (i, group_sum) in sums.iter().enumerate() {
        if passed + group_sum <= target {
            passed += group_sum;
            continue;
        }
        let group = &weights[i * GROUP..weights.len().min((i + 1) * GROUP)];
        for (j, weight) in group.iter().enumerate() {
            passed += f64::from(weight.max(0.0));
            if passed > target {
                return Some((i * GROUP + j) as u32);
            }
        }
    }
    // By rounding the target may exceed the cumulative sum.
    weights.iter().rposition(|w| *w > 0.0).map(|id| id as u32)
}

/// Returns the ids that top-k, then top-p leave, in ascending order.
pub(super) fn top_k_top_p(weights: &[f32], top_k: usize, top_p: f64) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..weights.len() as u32).filter(|id| weights[*id as usize] >= 0.0).collect();
    let likelier =
        |a: &u32, b: &u32| -> Ordering { weights[*b as usize].total_cmp(&weights[*a as usize]).then(a.cmp(b)) };
    if top_k < ids.len() {
        ids.select_nth_unstable_by(top_k - 1, likelier);
        ids.truncate(top_k);
    }
    if top_p < 1.0 && !ids.is_empty() {
        let target = top_p * ids.iter().map(|id| f64::from(weights[*id as usize])).sum::<f64>();
        let count = select_nucleus(&mut ids, weights, target, likelier);
        ids.truncate(count);
    }
    ids.sort_unstable();
    ids
}

/// Moves the fewest most likely ids whose weights reach `target` to the front, and returns their
/// number.
fn select_nucleus(ids: &mut [u32], weights: &[f32], target: f64, likelier: impl Fn(&u32, &u32) -> Ordering) -> usize {
    let (mut sorted, mut part, mut sum) = (0, 64, 0.0);
    while sorted < ids.len() {
        // The whole vocabulary is rarely needed, so growing parts of it are sorted.
        let rest = &mut ids[sorted..];
        let size = part.min(rest.len());
        if size < rest.len() {
            rest.select_nth_unstable_by(size - 1, &likelier);
        }
        rest[..size].sort_unstable_by(&likelier);
        for id in &rest[..size] {
            sorted += 1;
            sum += f64::from(weights[*id as usize]);
            if sum >= target {
                return sorted;
            }
        }
        part *= 8;
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::{SamplingOptions, sample_token};

    fn options(temperature: f64, top_k: Option<usize>, top_p: Option<f64>) -> SamplingOptions {
        SamplingOptions { temperature, top_k, top_p, ..SamplingOptions::greedy(1, vec![]) }
    }

    fn tokens(options: &SamplingOptions, logits: &[f32], forbidden: &[u32]) -> Vec<u32> {
        let mut scratch = Vec::new();
        (0..1000)
            .map(|i| sample_token(logits, options, forbidden, f64::from(i) / 1000.0, &mut scratch).unwrap().token)
            .collect()
    }

    #[test]
    fn greedy_decoding_takes_the_first_of_equally_likely_tokens() {
        let sampled = sample_token(&[1.0, 3.0, 3.0], &options(0.0, None, None), &[], 0.9, &mut Vec::new()).unwrap();
        assert_eq!(sampled.token, 1);
        assert!((sampled.logprob + (2.0 + (-2f32).exp()).ln()).abs() < 1e-6);
        assert_eq!(tokens(&options(0.0, None, None), &[1.0, 3.0, 3.0], &[1])[0], 2);
    }

    #[test]
    fn frequencies_follow_the_temperature() {
        let logits = [0.5f32, -1.0, 2.0, 0.0];
        for temperature in [0.5, 1.0, 2.0] {
            let drawn = tokens(&options(temperature, None, None), &logits, &[]);
            let weights: Vec<f64> = logits.iter().map(|x| (f64::from(*x) / temperature).exp()).collect();
            for (id, weight) in weights.iter().enumerate() {
                let share = drawn.iter().filter(|t| **t == id as u32).count() as f64 / 1000.0;
                assert!((share - weight / weights.iter().sum::<f64>()).abs() < 2e-3, "{temperature} {id} {share}");
            }
        }
    }

    #[test]
    fn top_k_applies_before_top_p() {
        let logits: Vec<f32> = [0.4f32, 0.3, 0.2, 0.1].iter().map(|p| p.ln()).collect();
        let seen = |k, p| {
            let mut seen = tokens(&options(1.0, k, p), &logits, &[]);
            seen.dedup();
            seen
        };
        assert_eq!(seen(Some(2), None), [0, 1]);
        assert_eq!(seen(None, Some(0.65)), [0, 1]);
        assert_eq!(seen(None, Some(0.75)), [0, 1, 2]);
        // Of the two tokens that top-k leaves, the first has 4/7.
        assert_eq!(seen(Some(2), Some(0.5)), [0]);
        assert_eq!(seen(Some(9), Some(1.0)), [0, 1, 2, 3]);
    }

    #[test]
    fn the_nucleus_may_need_many_tokens() {
        let logits = vec![0f32; 2000];
        let mut seen = tokens(&options(1.0, None, Some(0.5)), &logits, &[3]);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1000);
        assert!(*seen.last().unwrap() == 1000 && !seen.contains(&3));
    }

    #[test]
    fn a_very_likely_forbidden_token_does_not_change_the_others() {
        // More than a vector; only tokens 20 and 21 have a chance, of 1 to 3.
        for ahead in [40.0, 75.0, 95.0, 500.0, 1e6] {
            let mut logits = vec![-200f32; 67];
            (logits[20], logits[21], logits[40]) = (0.0, 3f32.ln(), ahead);
            let share = |options: &SamplingOptions| {
                let drawn = tokens(options, &logits, &[40]);
                assert!(drawn.iter().all(|token| [20, 21].contains(token)), "{ahead}: {drawn:?}");
                drawn.iter().filter(|token| **token == 21).count()
            };
            for options in [options(1.0, None, None), options(1.0, Some(5), None), options(1.0, None, Some(0.999))] {
                assert!((749..=751).contains(&share(&options)), "{ahead}, {options:?}: {}", share(&options));
            }
            assert_eq!(share(&options(0.0, None, None)), 1000, "{ahead}");
            // The log-probability is that of the whole distribution.
            let sampled = sample_token(&logits, &options(0.0, None, None), &[40], 0.5, &mut Vec::new()).unwrap();
            assert!((sampled.logprob - (3f32.ln() - ahead)).abs() < 1e-5 * ahead, "{ahead}: {sampled:?}");
        }
        assert_eq!(
            sample_token(&[f32::NEG_INFINITY, 9.0], &options(1.0, None, None), &[1], 0.5, &mut Vec::new()),
            None
        );
    }

    #[test]
    fn logits_that_are_not_finite_are_refused() {
        for logits in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [f32::NEG_INFINITY, f32::NEG_INFINITY]] {
            assert_eq!(sample_token(&logits, &options(1.0, None, None), &[], 0.5, &mut Vec::new()), None);
        }
        assert_eq!(sample_token(&[0.0, 1.0], &options(1.0, None, None), &[0, 1], 0.5, &mut Vec::new()), None);
    }
}
