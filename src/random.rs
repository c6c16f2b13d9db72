//! Counter-based random numbers: each number is a pure function of its purpose.
//!
//! A [`Stream`] is keyed by (seed, stage, row, sample) and has numbered positions. For example,
//! token *t* of a sample uses position *t*. A stream has no state, so a sample does not depend on
//! its batch, on the order of the work or on where a run was interrupted, and any position can be
//! read at any time.
//!
//! The construction is blake3 in derive-key mode over the parts of the key, each preceded by its
//! length, read as an extendable output. Position *p* owns the 64 bytes at offset 64 *p*: one
//! output block, or eight little-endian words. Words of different positions and keys are
//! independent as far as blake3 is a pseudo-random function. `ln` and `cos` come from the `libm`
//! crate, so numbers are the same on every machine.
//!
//! ```
//! use visplay::random::Seed;
//!
//! let sample = Seed(7).stream("answers", "row-a", 3);
//! let fourth_token = sample.uniform(4);
//! assert_eq!(fourth_token, sample.uniform(4));
//! assert!((0.0..1.0).contains(&fourth_token));
//! ```

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The blake3 derive-key context. Changing it, or anything else here that affects a number, changes
/// every sample ever drawn; the frozen values in the tests below guard against that.
const CONTEXT: &str = "visplay 2026-01 counter-based random stream v1";

/// Number of words per position.
const LANES: u64 = 8;

/// The seed of a run, from which all its random numbers derive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// Returns the stream of sample `sample` of row `row` in stage `stage`.
    pub fn stream(self, stage: &str, row: &str, sample: u64) -> Stream {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&self.0.to_le_bytes());
        for part in [stage, row] {
            // The preceding length distinguishes ("ab", "c") from ("a", "bc").
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.update(&sample.to_le_bytes());
        Stream { output: hasher.finalize_xof() }
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Seed {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The random numbers for one purpose, addressed by position. See the [module](self).
#[derive(Debug, Clone)]
pub struct Stream {
    output: blake3::OutputReader,
}

impl Stream {
    /// Returns the eight words of a position.
    fn block(&self, position: u64) -> [u64; LANES as usize] {
        let mut words = [[0u8; 8]; LANES as usize];
        self.fill(position, words.as_flattened_mut());
        words.map(u64::from_le_bytes)
    }

    /// Returns 64 random bits.
    pub fn bits(&self, position: u64) -> u64 {
        self.block(position)[0]
    }

    /// Returns a number in [0, 1): one of the 2^53 multiples of 2^-53, each equally likely.
    pub fn uniform(&self, position: u64) -> f64 {
        unit(self.bits(position))
    }

    /// Returns an integer in 0..bound, each exactly equally likely.
    ///
    /// Uses Lemire, *Fast Random Integer Generation in an Interval* (2019): the high half of word *
    /// bound, rejecting words whose low half is below 2^64 mod bound. A position whose eight words
    /// are all rejected (at most one in 256, for bounds near 2^64) continues in a stream keyed by
    /// its block.
    pub fn below(&self, position: u64, bound: NonZeroU64) -> u64 {
        let bound = bound.get();
        let threshold = bound.wrapping_neg() % bound;
        let mut block = self.block(position);
        loop {
            for word in block {
                let product = u128::from(word) * u128::from(bound);
                if product as u64 >= threshold {
                    return (product >> 64) as u64;
                }
            }
            block = Seed(block[7]).stream("below", "all eight words rejected", block[6]).block(0);
        }
    }

    /// Returns a standard normal number (Box and Muller, 1958): sqrt(-2 ln u) cos(2 pi v), with u
    /// in (0, 1] and v in [0, 1).
    pub fn normal(&self, position: u64) -> f64 {
        let [a, b, ..] = self.block(position);
        let u = 1.0 - unit(a);
        (-2.0 * libm::log(u)).sqrt() * libm::cos(std::f64::consts::TAU * unit(b))
    }

    /// Shuffles the items, each order equally likely (Fisher and Yates). Uses positions 1..len.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.index(last as u64, last + 1);
            items.swap(last, other);
        }
    }

    /// Returns `count` different indexes below `len` in random order, every selection equally
    /// likely; all indexes if there are fewer. Uses positions 0..count, and a larger selection
    /// begins with the smaller ones.
    pub fn sample_indexes(&self, len: usize, count: usize) -> Vec<usize> {
        let mut indexes: Vec<usize> = (0..len).collect();
        let count = count.min(len);
        for first in 0..count {
            let other = first + self.index(first as u64, len - first);
            indexes.swap(first, other);
        }
        indexes.truncate(count);
        indexes
    }

    /// Fills `bytes` with the stream's bytes, starting at the block of `position`. This is the fast
    /// way to get many of them.
    pub fn fill(&self, position: u64, bytes: &mut [u8]) {
        let mut reader = self.output.clone();
        // There are 2^58 positions; wrapping beyond is harmless and avoids an error case.
        reader.set_position(position.wrapping_mul(8 * LANES));
        reader.fill(bytes);
    }

    /// Returns an index of a non-empty list.
    fn index(&self, position: u64, len: usize) -> usize {
        let bound = NonZeroU64::new(len as u64).unwrap_or(NonZeroU64::MIN);
        self.below(position, bound) as usize
    }
}

/// Converts the upper 53 bits to a multiple of 2^-53.
fn unit(word: u64) -> f64 {
    (word >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        Seed(42).stream("test", "row", 0)
    }

    fn bound(n: u64) -> NonZeroU64 {
        NonZeroU64::new(n).unwrap()
    }

    /// Pearson's chi-squared statistic of counts that should be equal.
    fn chi_square(counts: &[u64]) -> f64 {
        let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        counts.iter().map(|&n| (n as f64 - expected).powi(2) / expected).sum()
    }

    // A Python program over the `blake3` package, written from the module's description, gives the
    // same values.
    #[test]
    fn values_are_frozen() {
        let s = Seed(42).stream("answers", "0123abcd", 5);
        let bits: Vec<u64> = (0..3).map(|p| s.bits(p)).collect();
        assert_eq!(bits, [12_579_448_138_203_627_010, 7_619_626_708_957_773_196, 14_361_426_178_197_532_928]);
        assert_eq!(s.uniform(0).to_bits(), 0x3fe5_d265_adda_826f);
        assert_eq!(s.normal(0).to_bits(), 0xbfed_51dd_6bc9_17d6);
        assert_eq!(s.below(u64::MAX, bound(1000)), 29);
        let mut order: Vec<u8> = (0..10).collect();
        s.shuffle(&mut order);
        assert_eq!(order, [8, 0, 5, 7, 1, 2, 9, 4, 3, 6]);
        assert_eq!(s.sample_indexes(1000, 5), [681, 413, 778, 436, 210]);
    }

    #[test]
    fn the_construction_is_the_documented_one() {
        // The same bytes assembled by hand: seed, length and stage, length and row, sample.
        let mut preimage = 42u64.to_le_bytes().to_vec();
        preimage.extend(4u64.to_le_bytes());
        preimage.extend(b"test");
        preimage.extend(3u64.to_le_bytes());
        preimage.extend(b"row");
        preimage.extend(0u64.to_le_bytes());
        let mut bytes = vec![0u8; 64 * 4];
        blake3::Hasher::new_derive_key(CONTEXT).update(&preimage).finalize_xof().fill(&mut bytes);
        for (position, block) in bytes.chunks_exact(64).enumerate() {
            let word = u64::from_le_bytes(block[..8].try_into().unwrap());
            assert_eq!(stream().bits(position as u64), word);
        }
        let mut filled = vec![0u8; 100];
        stream().fill(1, &mut filled);
        assert_eq!(filled, bytes[64..164]);
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let all = [
            Seed(1).stream("a", "b", 0),
            Seed(2).stream("a", "b", 0),
            Seed(1).stream("ab", "", 0),
            Seed(1).stream("", "ab", 0),
            Seed(1).stream("a", "b", 1),
        ];
        let mut words: Vec<u64> = all.iter().map(|s| s.bits(0)).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all.len());
    }

    #[test]
    fn uniform_numbers_are_uniform_and_independent_between_positions() {
        const N: u64 = 200_000;
        let s = stream();
        let (mut counts, mut pairs) = (vec![0u64; 100], vec![0u64; 100]);
        for p in 0..N {
            let (u, v) = (s.uniform(p), s.uniform(p + 1));
            assert!((0.0..1.0).contains(&u));
            counts[(u * 100.0) as usize] += 1;
            pairs[(u * 10.0) as usize * 10 + (v * 10.0) as usize] += 1;
        }
        // 99 degrees of freedom: the 99.99 % quantile is 161.3.
        assert!(chi_square(&counts) < 161.3, "{}", chi_square(&counts));
        assert!(chi_square(&pairs) < 161.3, "{}", chi_square(&pairs));
    }

    #[test]
    fn neighbouring_samples_are_independent() {
        let mut counts = vec![0u64; 100];
        for sample in 0..50_000 {
            let (a, b) = (Seed(1).stream("s", "r", sample), Seed(1).stream("s", "r", sample + 1));
            counts[(a.uniform(0) * 10.0) as usize * 10 + (b.uniform(0) * 10.0) as usize] += 1;
        }
        assert!(chi_square(&counts) < 161.3, "{}", chi_square(&counts));
    }

    #[test]
    fn below_is_uniform_and_within_its_bound() {
        let s = stream();
        let mut counts = vec![0u64; 7];
        for p in 0..70_000 {
            counts[s.below(p, bound(7)) as usize] += 1;
        }
        // 6 degrees of freedom: 99.99 % quantile 27.9.
        assert!(chi_square(&counts) < 27.9, "{}", chi_square(&counts));
        assert!((0..100).all(|p| s.below(p, bound(1)) == 0));
        // Just above 2^63 nearly every second word is rejected, so the continuation is tested too.
        let wide = bound((1 << 63) + 1);
        let mut halves = [0u64; 2];
        for p in 0..20_000 {
            let n = s.below(p, wide);
            assert!(n < wide.get());
            halves[usize::from(n >= 1 << 62)] += 1;
        }
        assert!(chi_square(&halves) < 15.2, "{}", chi_square(&halves));
    }

    #[test]
    fn normal_numbers_have_the_moments_and_tails_of_the_distribution() {
        const N: u64 = 200_000;
        let s = stream();
        let (mut sum, mut squares, mut fourths, mut inside) = (0.0, 0.0, 0.0, 0u64);
        for p in 0..N {
            let x = s.normal(p);
            sum += x;
            squares += x * x;
            fourths += x.powi(4);
            inside += u64::from(x.abs() < 1.0);
        }
        let n = N as f64;
        assert!((sum / n).abs() < 0.009);
        assert!((squares / n - 1.0).abs() < 0.013);
        assert!((fourths / n - 3.0).abs() < 0.09);
        assert!((inside as f64 / n - 0.682_689_5).abs() < 0.0042);
    }

    #[test]
    fn shuffle_reaches_every_order_equally_often() {
        let mut counts = std::collections::BTreeMap::<Vec<u8>, u64>::new();
        for sample in 0..24_000 {
            let mut items = vec![0, 1, 2, 3];
            Seed(3).stream("shuffle", "", sample).shuffle(&mut items);
            *counts.entry(items).or_default() += 1;
        }
        assert_eq!(counts.len(), 24);
        let counts: Vec<u64> = counts.into_values().collect();
        // 23 degrees of freedom: 99.99 % quantile 57.1.
        assert!(chi_square(&counts) < 57.1, "{}", chi_square(&counts));
    }

    #[test]
    fn selections_are_distinct_uniform_and_nested() {
        let mut counts = vec![0u64; 10];
        for sample in 0..20_000 {
            let s = Seed(4).stream("sample", "", sample);
            let three = s.sample_indexes(10, 3);
            assert_eq!(three[..2], s.sample_indexes(10, 2));
            assert!(three[0] != three[1] && three[1] != three[2] && three[0] != three[2]);
            three.iter().for_each(|&i| counts[i] += 1);
        }
        assert!(chi_square(&counts) < 33.7, "{}", chi_square(&counts));
        let mut all = stream().sample_indexes(5, 9);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4]);
        assert!(stream().sample_indexes(0, 3).is_empty());
    }
}
