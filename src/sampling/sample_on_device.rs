//! Drawing one token from each row of logits on a GPU, with the same result as
//! [`sample_token`](super::sample_token), while most of the logits stay on the GPU.
//!
//! The vocabulary is cut into chunks. Their largest logits and sums of weights are copied to the
//! host, which then requests the few chunks that can contain the token: the k most likely tokens
//! are in the k chunks with the largest logits, and the cumulative sum of all weights exceeds the
//! random number within one chunk.

use candle_core::{D, DType, Device, Result, Tensor};

use super::options::SamplingOptions;
use super::sample_token::{SampledToken, argmax, draw_index, forbid, top_k_top_p};

/// Tokens per chunk.
const CHUNK: usize = 128;
/// Number of chunks that are requested first when it is not known how many are needed (top-p); each
/// further request has eight times as many.
const FIRST_CHUNKS: usize = 64;

/// Parameters of drawing a row's token.
pub(super) struct DrawParameters<'a> {
    pub(super) options: &'a SamplingOptions,
    /// Tokens that are never drawn, in addition to those of the options.
    pub(super) forbidden: &'a [u32],
    /// The sample's random number in [0, 1) for this position.
    pub(super) uniform: f64,
}

/// A row's statistics by chunk, on the host.
struct RowSummary<'a> {
    /// Largest allowed logit of each chunk, divided by the temperature.
    maxima: &'a [f32],
    /// Sum of each chunk's weights, `exp(logit - top)`.
    sums: &'a [f32],
    /// Largest allowed logit, the reference of all weights.
    top: f32,
    /// Largest logit, of forbidden tokens too, and the sum of `exp(logit - largest)` over all.
    largest: f32,
    sum: f32,
}

impl RowSummary<'_> {
    /// Returns the sum of all weights.
    fn total(&self) -> f64 {
        self.sums.iter().map(|sum| f64::from(*sum)).sum()
    }
}

/// A row that has no token yet.
struct PendingRow {
    row: usize,
    /// Requested chunks, in ascending order.
    chunks: Vec<u32>,
    /// Upper bound of the logits outside these chunks.
    beyond: f32,
}

/// Draws a token for each row of `[rows, vocabulary]`; `None` where
/// [`sample_token`](super::sample_token) returns `None`.
pub(super) fn sample_on_device(logits: &Tensor, draws: &[DrawParameters<'_>]) -> Result<Vec<Option<SampledToken>>> {
    let (rows, vocabulary) = logits.dims2()?;
    let device = logits.device();
    let count = vocabulary.div_ceil(CHUNK);
    let inverse: Vec<f32> = draws.iter().map(|draw| draw.options.inverse_temperature()).collect();
    let scaled = logits.to_dtype(DType::F32)?.broadcast_mul(&Tensor::from_vec(inverse, (rows, 1), device)?)?;
    let largest = scaled.max_keepdim(D::Minus1)?; // [rows, 1]
    let all = scaled.broadcast_sub(&largest)?.exp()?.sum(D::Minus1)?; // [rows]
    let allowed = (scaled + forbidden_penalties(draws, vocabulary, device)?)?;
    let allowed = match count * CHUNK - vocabulary {
        0 => allowed,
        // The padding of the last chunk cannot be drawn.
        padding => {
            let end = Tensor::full(f32::NEG_INFINITY, (rows, padding), device)?;
            Tensor::cat(&[allowed, end], 1)?
        }
    };
    let chunks = allowed.reshape((rows, count, CHUNK))?;
    let maxima = chunks.max(2)?; // [rows, chunks]
    let tops = maxima.max_keepdim(D::Minus1)?; // [rows, 1]
    let sums = to_host(&chunks.broadcast_sub(&tops.unsqueeze(2)?)?.exp()?.sum(2)?)?;
    let (maxima, tops) = (to_host(&maxima)?, to_host(&tops)?);
    let (largest, all) = (to_host(&largest)?, to_host(&all)?);
    let row = |i: usize| RowSummary {
        maxima: &maxima[i * count..][..count],
        sums: &sums[i * count..][..count],
        top: tops[i],
        largest: largest[i],
        sum: all[i],
    };
    let chunks = chunks.reshape((rows * count, CHUNK))?;
    let mut sampled = vec![None; rows];
    let mut pending: Vec<PendingRow> =
        (0..rows).filter_map(|i| request_chunks(i, &row(i), &draws[i], FIRST_CHUNKS)).collect();
    let mut limit = FIRST_CHUNKS;
    while !pending.is_empty() {
        let wanted: Vec<u32> = pending
            .iter()
            .flat_map(|pending| pending.chunks.iter().map(|c| (pending.row * count) as u32 + c))
            .collect();
        let values = to_host(&chunks.index_select(&Tensor::new(wanted, device)?, 0)?)?;
        limit *= 8;
        let mut rest = Vec::new();
        let mut first = 0;
        for pending in pending {
            let values = &values[first * CHUNK..][..pending.chunks.len() * CHUNK];
            first += pending.chunks.len();
            let i = pending.row;
            match choose_token(&row(i), &pending, values, &draws[i]) {
                Some(token) => sampled[i] = token,
                None => rest.extend(request_chunks(i, &row(i), &draws[i], limit)),
            }
        }
        pending = rest;
    }
    Ok(sampled)
}

/// Returns minus infinity for forbidden tokens and 0 for the others: `[1, vocabulary]` broadcast if
/// all rows forbid the same tokens, else `[rows, vocabulary]`.
fn forbidden_penalties(draws: &[DrawParameters<'_>], vocabulary: usize, device: &Device) -> Result<Tensor> {
    let equal = |a: &DrawParameters<'_>, b: &DrawParameters<'_>| {
        a.forbidden == b.forbidden && a.options.forbidden == b.options.forbidden
    };
    let same = draws.windows(2).all(|pair| equal(&pair[0], &pair[1]));
    let rows = if same { &draws[..draws.len().min(1)] } else { draws };
    let mut values = vec![0f32; rows.len() * vocabulary];
    for (draw, values) in rows.iter().zip(values.chunks_exact_mut(vocabulary)) {
        forbid(values, draw.forbidden, draw.options, f32::NEG_INFINITY);
    }
    Tensor::from_vec(values, (rows.len(), vocabulary), device)?.broadcast_as((draws.len(), vocabulary))
}

fn to_host(x: &Tensor) -> Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}

/// Returns the request for the chunks that a row's token may be in, at most `limit` if their number
/// is not known; `None` if the row has no token.
fn request_chunks(i: usize, row: &RowSummary<'_>, draw: &DrawParameters<'_>, limit: usize) -> Option<PendingRow> {
    if !row.largest.is_finite() || !row.sum.is_finite() || row.maxima.iter().all(|m| *m == f32::NEG_INFINITY) {
        return None;
    }
    let greedy = draw.options.temperature == 0.0;
    if !greedy && draw.options.is_plain() {
        let (chunk, _) = passing_index(row.sums, 0.0, draw.uniform * row.total())?;
        return Some(PendingRow { row: i, chunks: vec![chunk as u32], beyond: f32::NEG_INFINITY });
    }
    let wanted = if greedy { 1 } else { draw.options.top_k.unwrap_or(limit) };
    let mut order: Vec<u32> = (0..row.maxima.len() as u32).collect();
    let larger = |a: &u32, b: &u32| row.maxima[*b as usize].total_cmp(&row.maxima[*a as usize]).then(a.cmp(b));
    let mut beyond = f32::NEG_INFINITY;
    if wanted < order.len() {
        let (_, next, _) = order.select_nth_unstable_by(wanted, larger);
        beyond = row.maxima[*next as usize];
        order.truncate(wanted);
    }
    order.sort_unstable();
    Some(PendingRow { row: i, chunks: order, beyond })
}

/// Returns the index at which the cumulative sum of the weights, starting at `before`, exceeds
/// `target`, and the sum before it; negative weights do not count.
fn passing_index(weights: &[f32], before: f64, target: f64) -> Option<(usize, f64)> {
    let mut passed = before;
    for (i, weight) in weights.iter().enumerate() {
        let sum = passed + f64::from(weight.max(0.0));
        if sum > target {
            return Some((i, passed));
        }
        passed = sum;
    }
    // By rounding the target may exceed the cumulative sum.
    let last = weights.iter().rposition(|weight| *weight > 0.0)?;
    Some((last, passed - f64::from(weights[last])))
}

/// Returns the token, given the values of the requested chunks; `None` if more chunks are needed.
fn choose_token(
    row: &RowSummary<'_>,
    pending: &PendingRow,
    values: &[f32],
    parameters: &DrawParameters<'_>,
) -> Option<Option<SampledToken>> {
    let id = |place: usize| pending.chunks[place / CHUNK] * CHUNK as u32 + (place % CHUNK) as u32;
    let weight = |scaled: &f32| if *scaled == f32::NEG_INFINITY { -1.0 } else { (scaled - row.top).exp() };
    let weights: Vec<f32> = values.iter().map(weight).collect();
    let options = parameters.options;
    let place = if options.temperature == 0.0 {
        argmax(&weights).map(|place| place as usize)
    } else if options.is_plain() {
        let target = parameters.uniform * row.total();
        passing_index(row.sums, 0.0, target)
            .and_then(|(_, passed)| passing_index(&weights, passed, target))
            .map(|(place, _)| place)
    } else {
        let kept = match options.top_k {
            Some(k) => top_k_top_p(&weights, k, options.top_p.unwrap_or(1.0)),
            None => select_nucleus(row, pending, &weights, options.top_p.unwrap_or(1.0))?,
        };
        let kept_weights: Vec<f32> = kept.iter().map(|place| weights[*place as usize]).collect();
        draw_index(&kept_weights, parameters.uniform).map(|i| kept[i as usize] as usize)
    };
    let token = |place: usize| {
        let logprob = f64::from(values[place]) - f64::from(row.largest) - f64::from(row.sum).ln();
        SampledToken { token: id(place), logprob: logprob as f32 }
    };
    Some(place.map(token))
}

/// Returns the indexes that top-p leaves, in ascending order; `None` if tokens outside the
/// requested chunks may belong to them.
fn select_nucleus(row: &RowSummary<'_>, pending: &PendingRow, weights: &[f32], top_p: f64) -> Option<Vec<u32>> {
    let target = top_p * row.total();
    let beyond = if pending.beyond == f32::NEG_INFINITY { -1.0 } else { (pending.beyond - row.top).exp() };
    let mut places: Vec<u32> = (0..weights.len() as u32).filter(|p| weights[*p as usize] >= 0.0).collect();
    places.sort_unstable_by(|a, b| weights[*b as usize].total_cmp(&weights[*a as usize]).then(a.cmp(b)));
    let mut sum = 0.0;
    for (n, place) in places.iter().enumerate() {
        let weight = weights[*place as usize];
        if weight <= beyond {
            return None;
        }
        sum += f64::from(weight);
        if sum >= target {
            places.truncate(n + 1);
            break;
        }
    }
    if sum < target && pending.chunks.len() < row.maxima.len() {
        return None;
    }
    places.sort_unstable();
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;
    use crate::sampling::sample_token;

    fn cases() -> Vec<SamplingOptions> {
        let with = |temperature, top_k, top_p, forbidden: &[u32]| SamplingOptions {
            temperature,
            top_k,
            top_p,
            forbidden: forbidden.to_vec(),
            ..SamplingOptions::greedy(1, vec![])
        };
        vec![
            with(0.0, None, None, &[]),
            with(1.0, None, None, &[]),
            with(0.7, None, None, &[3, 500]),
            with(1.0, Some(1), None, &[]),
            with(1.3, Some(40), None, &[0, 1]),
            with(1.0, Some(40), Some(0.8), &[]),
            with(1.0, Some(5000), None, &[]),
            with(1.0, None, Some(0.99), &[]),
            with(2.0, None, Some(0.5), &[7]),
            with(1.0, None, Some(1.0), &[]),
        ]
    }

    /// Logits of a peaked, a flat and a coarse distribution (many equal logits).
    fn logits(kind: usize, row: usize, vocabulary: usize) -> Vec<f32> {
        let stream = Seed(21).stream("logits", &kind.to_string(), row as u64);
        let normal = |i: usize| stream.normal(i as u64) as f32;
        (0..vocabulary)
            .map(|i| match kind {
                0 => 4.0 * normal(i),
                1 => 0.01 * normal(i),
                _ => (2.0 * normal(i)).round(),
            })
            .collect()
    }

    #[test]
    fn tokens_equal_those_of_sample_token() {
        for vocabulary in [3, 128, 272, 20_001] {
            for (kind, options) in (0..3).flat_map(|kind| cases().into_iter().map(move |options| (kind, options))) {
                const ROWS: usize = 24;
                let forbidden = [2u32, 99];
                let rows: Vec<Vec<f32>> = (0..ROWS).map(|row| logits(kind, row, vocabulary)).collect();
                let uniform = |row: usize| Seed(4).stream("uniform", "", row as u64).uniform(0);
                let draws: Vec<DrawParameters<'_>> = (0..ROWS)
                    .map(|row| DrawParameters { options: &options, forbidden: &forbidden, uniform: uniform(row) })
                    .collect();
                let tensor = Tensor::from_vec(rows.concat(), (ROWS, vocabulary), &Device::Cpu).unwrap();
                let actual = sample_on_device(&tensor, &draws).unwrap();
                for (row, actual) in actual.into_iter().enumerate() {
                    let expected = sample_token(&rows[row], &options, &forbidden, uniform(row), &mut Vec::new());
                    let case = format!("{vocabulary}, {kind}, {options:?}, row {row}: {actual:?}, {expected:?}");
                    assert_eq!(actual.map(|p| p.token), expected.map(|p| p.token), "{case}");
                    // In a vocabulary of three every token may be forbidden.
                    assert!(actual.is_some() || vocabulary == 3, "{case}");
                    let logprob = |sampled: Option<SampledToken>| sampled.map_or(0.0, |p| p.logprob);
                    assert!((logprob(actual) - logprob(expected)).abs() < 1e-5, "{case}");
                }
            }
        }
    }

    #[test]
    fn a_very_likely_forbidden_token_does_not_change_the_others() {
        for options in cases() {
            let mut logits = logits(0, 7, 300);
            for ahead in [60.0, 95.0, 500.0] {
                logits[99] = ahead;
                let tensor = Tensor::new(logits.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
                for uniform in [0.0, 0.2, 0.5, 0.93] {
                    let actual =
                        sample_on_device(&tensor, &[DrawParameters { options: &options, forbidden: &[99], uniform }])
                            .unwrap();
                    let expected = sample_token(&logits, &options, &[99], uniform, &mut Vec::new()).unwrap();
                    let actual = actual[0].unwrap();
                    assert_eq!(actual.token, expected.token, "{ahead}, {options:?}");
                    assert!((actual.logprob - expected.logprob).abs() < 1e-4, "{ahead}: {actual:?}, {expected:?}");
                }
            }
        }
    }

    #[test]
    fn rows_may_have_different_options_or_no_token() {
        let cases = cases();
        let vocabulary = 300;
        let mut rows: Vec<Vec<f32>> = (0..cases.len()).map(|row| logits(0, row, vocabulary)).collect();
        rows[2][17] = f32::NAN;
        rows[3] = vec![f32::NEG_INFINITY; vocabulary];
        rows[4][5] = f32::INFINITY;
        let all: Vec<u32> = (0..vocabulary as u32).collect();
        let forbidden = |row: usize| if row == 5 { all.as_slice() } else { &[] };
        let draws: Vec<DrawParameters<'_>> = (cases.iter().enumerate())
            .map(|(row, options)| DrawParameters { options, forbidden: forbidden(row), uniform: 0.37 })
            .collect();
        let tensor = Tensor::from_vec(rows.concat(), (rows.len(), vocabulary), &Device::Cpu).unwrap();
        let actual = sample_on_device(&tensor, &draws).unwrap();
        for (row, actual) in actual.iter().enumerate() {
            let expected = sample_token(&rows[row], &cases[row], forbidden(row), 0.37, &mut Vec::new());
            assert_eq!(actual.map(|p| p.token), expected.map(|p| p.token), "row {row}");
            assert_eq!(actual.is_none(), (2..=5).contains(&row), "row {row}");
        }
    }
}
