//! BLEU distances between all questions of a scope, from which the diversity penalty is computed.
//!
//! The score of question i as hypothesis and j as reference equals NLTK's `sentence_bleu` with
//! smoothing method 1 bit for bit: same logarithms, same correctly rounded sum of four, same
//! exponential. Bits matter because clustering compares distances, and equal distances must stay
//! equal.

use std::collections::HashMap;

use rayon::prelude::*;

/// Longest n-gram counted.
const ORDERS: usize = 4;
/// Count that smoothing method 1 assigns to an order without a match.
const EPSILON: f64 = 0.1;
/// Longest sentence, in words, for the packed counters of a row; a longer one could overflow them,
/// so its pairs are compared one by one.
const MAX_PACKED_WORDS: usize = 65_535;

/// Sentences as counted n-grams.
pub(super) struct Corpus {
    /// Number of words of each sentence.
    lengths: Vec<usize>,
    /// Distinct n-grams of each sentence.
    grams: Vec<Vec<Gram>>,
    /// For each n-gram: the sentences that contain it, in order, and its count in each.
    postings: Vec<Vec<(u32, u32)>>,
}

#[derive(Clone, Copy)]
struct Gram {
    order: usize,
    id: usize,
    count: u32,
}

impl Corpus {
    /// Counts the n-grams of sentences split at white space.
    pub(super) fn new<S: AsRef<str>>(sentences: &[S]) -> Self {
        let mut corpus = Self { lengths: Vec::new(), grams: Vec::new(), postings: Vec::new() };
        // An n-gram is identified by the number of its first n-1 words and by its last word; number
        // 0 is the empty prefix.
        let mut words: HashMap<&str, u32> = HashMap::new();
        let mut numbers: HashMap<(usize, u32), usize> = HashMap::new();
        for (at, sentence) in sentences.iter().enumerate() {
            let sentence: Vec<u32> = split_words(sentence.as_ref())
                .map(|word| {
                    let next = words.len() as u32;
                    *words.entry(word).or_insert(next)
                })
                .collect();
            let mut grams: Vec<Gram> = Vec::new();
            let mut places: HashMap<usize, usize> = HashMap::new();
            for start in 0..sentence.len() {
                let mut id = 0;
                for (order, &word) in sentence[start..].iter().take(ORDERS).enumerate() {
                    let next = numbers.len() + 1;
                    id = *numbers.entry((id, word)).or_insert(next);
                    let place = *places.entry(id).or_insert(grams.len());
                    if place == grams.len() {
                        grams.push(Gram { order, id, count: 0 });
                    }
                    grams[place].count += 1;
                }
            }
            corpus.postings.resize(numbers.len() + 1, Vec::new());
            for gram in &grams {
                corpus.postings[gram.id].push((at as u32, gram.count));
            }
            corpus.lengths.push(sentence.len());
            corpus.grams.push(grams);
        }
        corpus
    }

    /// Returns the number of sentences.
    pub(super) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Writes the distances 1 - BLEU between hypothesis `i` and every later sentence into `row`.
    pub(super) fn distances_behind(&self, i: usize, row: &mut [f64], matches: &mut Vec<u64>) {
        let scores = Scores::new(self.lengths[i], &self.lengths);
        let behind = row.iter_mut().enumerate().skip(i + 1);
        if self.lengths[i] > MAX_PACKED_WORDS {
            behind.for_each(|(j, distance)| *distance = 1.0 - scores.bleu(self.matches(i, j), self.lengths[j]));
            return;
        }
        // Four 16-bit counters per sentence: the clipped matches of orders 1 to 4.
        matches.clear();
        matches.resize(self.len(), 0);
        for gram in &self.grams[i] {
            let postings = &self.postings[gram.id];
            let behind = postings.partition_point(|&(j, _)| j as usize <= i);
            let shift = 16 * gram.order;
            for &(j, count) in &postings[behind..] {
                matches[j as usize] += u64::from(count.min(gram.count)) << shift;
            }
        }
        for (j, distance) in behind {
            let counts = [0, 16, 32, 48].map(|shift| ((matches[j] >> shift) & 0xffff) as usize);
            *distance = 1.0 - scores.bleu(counts, self.lengths[j]);
        }
    }

    /// Returns the clipped matches of one pair, by order.
    fn matches(&self, i: usize, j: usize) -> [usize; ORDERS] {
        let mut matches = [0; ORDERS];
        for gram in &self.grams[i] {
            let postings = &self.postings[gram.id];
            if let Ok(at) = postings.binary_search_by_key(&(j as u32), |posting| posting.0) {
                matches[gram.order] += postings[at].1.min(gram.count) as usize;
            }
        }
        matches
    }
}

/// Python's `str.split()`, which counts four ASCII separators as white space that Unicode does not.
fn split_words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)).filter(|word| !word.is_empty())
}

/// Tables for the scores of one hypothesis, computed once per row.
struct Scores {
    /// A quarter of the logarithm of the smoothed precision, by order and number of matches.
    logarithms: [Vec<f64>; ORDERS],
    /// Brevity penalty by length of the reference.
    brevity: Vec<f64>,
}

impl Scores {
    fn new(hypothesis: usize, references: &[usize]) -> Self {
        let logarithms = [1, 2, 3, 4].map(|order| {
            let grams = (hypothesis + 1).saturating_sub(order);
            (0..=grams).map(|matches| quarter_logarithm(matches, grams)).collect()
        });
        let longest = references.iter().copied().max().unwrap_or(0);
        let brevity = (0..=longest).map(|reference| brevity_penalty(hypothesis, reference)).collect();
        Self { logarithms, brevity }
    }

    /// Returns BLEU = brevity · exp(Σ ¼ ln pₙ); 0 without a shared word.
    fn bleu(&self, matches: [usize; ORDERS], reference: usize) -> f64 {
        if matches[0] == 0 {
            return 0.0;
        }
        let terms: [f64; ORDERS] = std::array::from_fn(|order| self.logarithms[order][matches[order]]);
        self.brevity[reference] * exact_sum(terms).exp()
    }
}

/// ¼ ln p with p = matches / n-grams, or ε / n-grams without a match. A sentence too short for the
/// order counts as one n-gram.
fn quarter_logarithm(matches: usize, grams: usize) -> f64 {
    let above = if matches == 0 { EPSILON } else { matches as f64 };
    0.25 * (above / grams.max(1) as f64).ln()
}

fn brevity_penalty(hypothesis: usize, reference: usize) -> f64 {
    if hypothesis > reference {
        1.0
    } else if hypothesis == 0 {
        0.0
    } else {
        (1.0 - reference as f64 / hypothesis as f64).exp()
    }
}

/// Returns the sum of four numbers with a single rounding, as Python's `math.fsum`.
fn exact_sum([a, b, c, d]: [f64; 4]) -> f64 {
    let (sum, e1) = two_sum(a, b);
    let (sum, e2) = two_sum(sum, c);
    let (sum, e3) = two_sum(sum, d);
    // The errors are tiny and usually add up exactly; then only one rounding is left.
    let (errors, r1) = two_sum(e1, e2);
    let (errors, r2) = two_sum(errors, e3);
    if r1 == 0.0 && r2 == 0.0 { sum + errors } else { shewchuk_sum([a, b, c, d]) }
}

/// Returns the rounded sum and its rounding error (Knuth).
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let bb = sum - a;
    (sum, (a - (sum - bb)) + (b - bb))
}

/// Shewchuk's exact sum with the final rounding of `math.fsum`.
fn shewchuk_sum(terms: [f64; 4]) -> f64 {
    let mut partials: Vec<f64> = Vec::with_capacity(terms.len());
    for mut x in terms {
        let mut kept = Vec::with_capacity(partials.len() + 1);
        for &y in &partials {
            let (sum, error) = two_sum(x, y);
            if error != 0.0 {
                kept.push(error);
            }
            x = sum;
        }
        kept.push(x);
        partials = kept;
    }
    let Some(mut high) = partials.pop() else { return 0.0 };
    let mut low = 0.0;
    while let Some(y) = partials.pop() {
        (high, low) = two_sum(high, y);
        if low != 0.0 {
            break;
        }
    }
    // Half-way cases are rounded by the sign of the remainder below.
    if let Some(&below) = partials.last()
        && ((low < 0.0 && below < 0.0) || (low > 0.0 && below > 0.0))
    {
        let doubled = low * 2.0;
        let up = high + doubled;
        if doubled == up - high {
            high = up;
        }
    }
    high
}

/// Returns the full symmetric matrix of distances, row by row, with zeros on the diagonal.
pub(super) fn distance_matrix(corpus: &Corpus) -> Vec<f64> {
    let n = corpus.len();
    let mut matrix = vec![0.0; n * n];
    if n == 0 {
        return matrix;
    }
    matrix.par_chunks_mut(n).enumerate().for_each_init(Vec::new, |matches, (i, row)| {
        corpus.distances_behind(i, row, matches);
    });
    mirror(&mut matrix, n);
    matrix
}

/// Copies the upper triangle to the lower one, eight rows at a time: each cache line is read once.
fn mirror(matrix: &mut [f64], n: usize) {
    const BAND: usize = 8;
    const BANDS: usize = 16;
    for start in (0..n).step_by(BAND * BANDS) {
        let (above, below) = matrix.split_at_mut(start * n);
        let rows = below.len().min(BAND * BANDS * n);
        below[..rows].par_chunks_mut(BAND * n).enumerate().for_each(|(band, rows)| {
            let first = start + band * BAND;
            for j in 0..start {
                let line = &above[j * n + first..];
                for (r, row) in rows.chunks_mut(n).enumerate() {
                    row[j] = line[r];
                }
            }
        });
        // The blocks on the diagonal are small and done in place.
        let end = (start + BAND * BANDS).min(n);
        for i in start..end {
            for j in start..i {
                matrix[i * n + j] = matrix[j * n + i];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Corpus, distance_matrix, exact_sum, shewchuk_sum};

    #[test]
    fn scores_follow_the_formula() {
        let distances = |sentences: &[&str]| distance_matrix(&Corpus::new(sentences));
        // One word: p1 = 1, the other orders are smoothed to 0.1.
        assert!((1.0 - distances(&["a", "a"])[1] - 0.1f64.powf(0.75)).abs() < 1e-15);
        assert_eq!(distances(&["", ""])[1], 1.0);
        assert_eq!(distances(&["a b c d", "a b c d"])[1], 0.0);
        assert_eq!(distances(&["a b c d", "e f"])[1], 1.0);
        // The earlier sentence is the hypothesis; it is shorter, so the brevity penalty applies.
        let d = distances(&["a b c d", "a b c d e"]);
        assert!((1.0 - d[1] - (1.0f64 - 5.0 / 4.0).exp()).abs() < 1e-15);
        assert_eq!(d[1], d[2]);
    }

    #[test]
    fn both_sums_agree() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 11) as f64 / 2f64.powi(53)).ln() * 0.25
        };
        for _ in 0..100_000 {
            let terms = [next(), next(), next(), next()];
            assert_eq!(exact_sum(terms).to_bits(), shewchuk_sum(terms).to_bits());
        }
    }

    #[test]
    fn packed_and_plain_counts_agree() {
        let sentences = ["a b a b a c", "a b b a", "c a b a b", "x y"];
        let corpus = Corpus::new(&sentences);
        assert_eq!(corpus.matches(0, 2), [5, 3, 2, 1]);
        assert_eq!(corpus.matches(0, 3), [0; 4]);
    }

    #[test]
    fn the_matrix_is_symmetric() {
        let sentences: Vec<String> = (0..300).map(|i| format!("how many {} are on the {} ?", i % 7, i % 11)).collect();
        let matrix = distance_matrix(&Corpus::new(&sentences));
        for i in 0..300 {
            for j in 0..300 {
                assert_eq!(matrix[i * 300 + j], matrix[j * 300 + i]);
            }
        }
    }
}
