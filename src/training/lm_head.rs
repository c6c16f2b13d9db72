//! The LM head (last projection) in slices: log-probabilities of the targets and their gradients,
//! without holding all logits.

use candle_core::{D, DType, Result, Tensor};
use rayon::prelude::*;

use super::floats::floats;
use crate::kernels::rowwise::shifted_exponentials;
use crate::vlm::ops::{Linear, Ops};

/// Largest number of logits in memory, on a CPU (they fit its caches) and on a GPU (they fill it).
const LOGITS: [usize; 2] = [1 << 24, 1 << 27];

/// A target's log-probability and the entropy of its distribution.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TokenStats {
    /// Log-probability of the target under the temperature-scaled distribution.
    pub logprob: f32,
    /// Entropy of that distribution in nats.
    pub entropy: f32,
}

/// Gradients of the LM head.
pub(super) struct LmHeadGradients {
    /// With respect to the normalized rows, `[targets, hidden]`.
    pub(super) rows: Tensor,
    /// With respect to the projection, `[vocabulary, hidden]`; `None` if not requested.
    pub(super) weight: Option<Tensor>,
}

/// The projection and the temperature of the softmax.
pub(super) struct LmHead<'a> {
    /// Weight `[vocabulary, hidden]`, without an autograd graph.
    pub(super) weight: &'a Tensor,
    /// Temperature: divides the logits.
    pub(super) temperature: f64,
    pub(super) ops: Ops,
}

impl LmHead<'_> {
    fn rows_at_once(&self) -> Result<usize> {
        let [cpu, gpu] = LOGITS;
        let logits = if self.weight.device().is_cpu() { cpu } else { gpu };
        Ok((logits / self.weight.dim(0)?.max(1)).max(1))
    }

    /// Returns the statistics of every target. `normed`, `[targets, hidden]`, are the normalized
    /// rows that predict them.
    pub(super) fn forward(&self, normed: &Tensor, targets: &[u32]) -> Result<Vec<TokenStats>> {
        let scale = 1.0 / self.temperature;
        let mut stats = Vec::with_capacity(targets.len());
        for targets in targets.chunks(self.rows_at_once()?) {
            let logits = self.logits(&normed.narrow(0, stats.len(), targets.len())?)?;
            if self.ops.uses_cpu_kernels_for(&logits) {
                let (logits, vocabulary) = (logits.contiguous()?, self.weight.dim(0)?);
                let values = floats(&logits)?;
                let rows = values.par_chunks_exact(vocabulary).zip(targets);
                stats.par_extend(rows.map_init(
                    || vec![0f32; vocabulary],
                    |scratch, (row, target)| distribution(row, *target, scale, scratch).0,
                ));
            } else {
                stats.extend(ReferenceDistributions::new(&logits, targets, scale)?.stats);
            }
        }
        Ok(stats)
    }

    /// Returns the statistics of every target and the gradients by candle's ops; `gradient(i,
    /// logprob)` is the derivative of the loss with respect to the log-probability of target `i`.
    pub(super) fn forward_backward(
        &self,
        normed: &Tensor,
        targets: &[u32],
        gradient: &(dyn Fn(usize, f32) -> f32 + Sync),
        wants_weight: bool,
    ) -> Result<(Vec<TokenStats>, LmHeadGradients)> {
        let scale = 1.0 / self.temperature;
        let mut stats = Vec::with_capacity(targets.len());
        let (mut rows, mut weight) = (Vec::new(), None);
        for targets in targets.chunks(self.rows_at_once()?) {
            let first = stats.len();
            let x = normed.narrow(0, first, targets.len())?;
            let distributions = ReferenceDistributions::new(&self.logits(&x)?, targets, scale)?;
            let back = distributions.backward(scale, |i, logprob| gradient(first + i, logprob))?;
            stats.extend(distributions.stats);
            let back = back.to_dtype(normed.dtype())?;
            rows.push(back.matmul(self.weight)?);
            if wants_weight {
                let piece = back.t()?.matmul(&x)?.to_dtype(DType::F32)?; // [vocabulary, hidden]
                weight = Some(match weight {
                    None => piece,
                    Some(sum) => (sum + piece)?,
                });
            }
        }
        let rows = if rows.len() == 1 { rows.swap_remove(0) } else { Tensor::cat(&rows, 0)? };
        Ok((stats, LmHeadGradients { rows, weight }))
    }

    fn logits(&self, normed: &Tensor) -> Result<Tensor> {
        Linear::new(self.ops, self.weight.clone(), None).forward(normed)
    }
}

/// Returns the statistics of a row of logits and writes the derivative of the loss with respect to
/// the row to `out`, given the derivative `gradient(logprob)` with respect to the target's
/// log-probability.
pub(super) fn row_backward(
    row: &[f32],
    target: u32,
    scale: f64,
    gradient: impl Fn(f32) -> f32,
    out: &mut [f32],
) -> TokenStats {
    let (stats, sum) = distribution(row, target, scale, out);
    let factor = f64::from(gradient(stats.logprob)) * scale;
    // d logp / d logit_j = ([j is the target] - p_j) / temperature.
    let share = (factor / sum) as f32;
    out.iter_mut().for_each(|p| *p *= -share);
    out[target as usize] += factor as f32;
    stats
}

/// Returns the statistics of a row and the sum of `exp(x - max)`, which are written to `out`.
fn distribution(row: &[f32], target: u32, scale: f64, out: &mut [f32]) -> (TokenStats, f64) {
    let (largest, sum) = shifted_exponentials(row, scale as f32, out);
    // H = ln(sum) - sum of p (x - max), x being the scaled logits.
    let weighted = |(e, x): (&f32, &f32)| match *e {
        // A token of probability 0 adds nothing, even if its logit is minus infinity.
        0.0 => 0.0,
        e => f64::from(e) * (f64::from(*x) * scale - f64::from(largest)),
    };
    let mean = out.iter().zip(row).map(weighted).sum::<f64>() / sum;
    let logprob = f64::from(row[target as usize]) * scale - f64::from(largest) - sum.ln();
    (TokenStats { logprob: logprob as f32, entropy: (sum.ln() - mean) as f32 }, sum)
}

/// The distributions of rows of logits, computed by candle's ops; only the targets' statistics go
/// to the host.
struct ReferenceDistributions {
    stats: Vec<TokenStats>,
    /// Probabilities, `[rows, vocabulary]`.
    p: Tensor,
    /// Token ids of the targets, `[rows, 1]`.
    index: Tensor,
}

impl ReferenceDistributions {
    fn new(logits: &Tensor, targets: &[u32], scale: f64) -> Result<Self> {
        let log_p = candle_nn::ops::log_softmax(&(logits.to_dtype(DType::F32)? * scale)?, D::Minus1)?;
        let p = log_p.exp()?;
        // A logit of -inf adds nothing to the entropy; 0 * -inf would be NaN.
        let entropies = (&p * &log_p.maximum(f64::from(f32::MIN))?)?.sum(1)?.neg()?.to_vec1::<f32>()?;
        let index = Tensor::new(targets, logits.device())?.unsqueeze(1)?;
        let logprobs = log_p.gather(&index, 1)?.squeeze(1)?.to_vec1::<f32>()?;
        let stats = logprobs.into_iter().zip(entropies);
        Ok(Self { stats: stats.map(|(logprob, entropy)| TokenStats { logprob, entropy }).collect(), p, index })
    }

    /// Returns the derivative of the loss with respect to the logits, given the derivative
    /// `gradient(i, logprob)` with respect to the log-probability of target `i`.
    fn backward(&self, scale: f64, gradient: impl Fn(usize, f32) -> f32) -> Result<Tensor> {
        let factor = |(i, stats): (usize, &TokenStats)| (f64::from(gradient(i, stats.logprob)) * scale) as f32;
        let factors: Vec<f32> = self.stats.iter().enumerate().map(factor).collect();
        let factors = Tensor::new(factors, self.p.device())?.unsqueeze(1)?; // [rows, 1]
        self.p.broadcast_mul(&factors.neg()?)?.scatter_add(&self.index, &factors, 1)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn distributions_equal_the_oracle() {
        let frozen = include_str!("../../tests/oracles/grpo.jsonl");
        let cases: Vec<Value> = frozen.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let floats = |value: &Value| -> Vec<f64> { serde_json::from_value(value.clone()).unwrap() };
        let mut seen = 0;
        for case in cases.iter().filter(|case| case["kind"] == "distribution") {
            let targets: Vec<u32> = serde_json::from_value(case["tokens"].clone()).unwrap();
            let temperature = case["temperature"].as_f64().unwrap();
            let (logprobs, entropies) = (floats(&case["logps"]), floats(&case["entropies"]));
            for (i, row) in case["logits"].as_array().unwrap().iter().enumerate() {
                let row: Vec<f32> = serde_json::from_value(row.clone()).unwrap();
                // The scaled logits are f32, so the statistics can be off by their rounding.
                let largest = row.iter().fold(0f32, |a, b| a.max(b.abs()));
                let tolerance = 1e-5 + 1.2e-7 * f64::from(largest) / temperature;
                let (own, _) = distribution(&row, targets[i], 1.0 / temperature, &mut vec![0.0; row.len()]);
                let logits = Tensor::new(row.as_slice(), &candle_core::Device::Cpu).unwrap().unsqueeze(0).unwrap();
                let reference = ReferenceDistributions::new(&logits, &targets[i..=i], 1.0 / temperature).unwrap();
                for actual in [own, reference.stats[0]] {
                    for (actual, expected) in [(actual.logprob, logprobs[i]), (actual.entropy, entropies[i])] {
                        let difference = (f64::from(actual) - expected).abs();
                        let allowed = tolerance + 1e-6 * expected.abs();
                        assert!(difference <= allowed, "{row:?} at {temperature}: {actual}, {expected}");
                    }
                }
                seen += 1;
            }
        }
        assert!(seen >= 40);
    }

    #[test]
    fn a_token_of_probability_0_adds_nothing_to_the_entropy() {
        // Fewer than a vector, and several vectors.
        for words in [3, 64, 100] {
            let mut row = vec![f32::NEG_INFINITY; words];
            (row[0], row[2]) = (0.0, 0.0);
            let (own, _) = distribution(&row, 0, 1.0, &mut vec![0.0; words]);
            let logits = Tensor::new(row.as_slice(), &candle_core::Device::Cpu).unwrap().unsqueeze(0).unwrap();
            let reference = ReferenceDistributions::new(&logits, &[0], 1.0).unwrap();
            for actual in [own, reference.stats[0]] {
                assert!((actual.entropy - 2f32.ln()).abs() < 1e-6, "{actual:?}");
                assert!((actual.logprob + 2f32.ln()).abs() < 1e-6, "{actual:?}");
            }
        }
    }
}
