//! Exact search for near duplicates: images whose hashes differ in few bits from a kept one.
//!
//! A hash is split into bands. If the radii of the bands satisfy `sum(radius + 1) > threshold`, a
//! hash within the threshold is, by the pigeonhole principle, within the radius in at least one
//! band (Norouzi, Punjani, Fleet, "Fast search in Hamming space with multi-index hashing", 2012).
//! Each band has a hash table from its bits to the kept hashes with these bits, and a search visits
//! the buckets within the band's radius.

use std::fmt;

use super::perceptual::DHash;

/// A kept image that another image nearly duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twin {
    /// Index among the kept images, from 0.
    pub position: usize,
    /// Hamming distance of the two hashes in bits.
    pub distance: u32,
}

/// The decision to keep an image or to drop it as a near duplicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicateDecision {
    /// The image is kept at this index.
    Kept(usize),
    /// The image is dropped; this kept image is the nearest.
    NearDuplicate(Twin),
}

/// A threshold above the supported maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a near-duplicate threshold of {0} bits is too large; use 0 to {max} (of 64)", max = NearDuplicates::MAX_THRESHOLD)]
pub struct ThresholdError(u32);

/// An index of the kept hashes, searchable by distance.
pub struct NearDuplicates {
    threshold: u32,
    bands: Vec<HashBand>,
    /// The kept hashes, after [`scatter`].
    kept: Vec<u64>,
}

/// A range of bits of the scattered hash, and a table of the kept hashes by these bits.
struct HashBand {
    shift: u32,
    mask: u64,
    /// Differences to visit: all patterns of at most `radius` bits.
    patterns: Vec<u64>,
    /// Index of the newest kept hash of each bucket, plus one; 0 = none.
    heads: Vec<u32>,
    /// For each kept hash, the index of the next older one in its bucket, plus one; 0 = none.
    older: Vec<u32>,
}

/// Largest number of bits of a band, whose table has `2^bits` buckets.
const MAX_BAND_BITS: u32 = 16;
/// Number of kept hashes for which the bands are optimised.
const PLANNED_HASHES: f64 = 50_000.0;

impl NearDuplicates {
    /// Largest supported threshold in bits.
    pub const MAX_THRESHOLD: u32 = 16;

    /// Creates an empty index that finds hashes within `threshold` bits.
    ///
    /// # Errors
    /// A threshold above [`Self::MAX_THRESHOLD`].
    pub fn new(threshold: u32) -> Result<Self, ThresholdError> {
        if threshold > Self::MAX_THRESHOLD {
            return Err(ThresholdError(threshold));
        }
        Ok(Self { threshold, bands: plan(threshold), kept: Vec::new() })
    }

    /// Keeps a hash without a search and returns its index; for images that an earlier run kept.
    pub fn keep(&mut self, hash: DHash) -> usize {
        let scattered = scatter(hash.bits());
        let position = self.kept.len();
        self.kept.push(scattered);
        for band in &mut self.bands {
            let head = &mut band.heads[(scattered >> band.shift & band.mask) as usize];
            band.older.push(*head);
            *head = position as u32 + 1;
        }
        position
    }

    /// Returns the nearest kept hash within the threshold; of equally near ones, the earliest.
    pub fn nearest(&self, hash: DHash) -> Option<Twin> {
        let scattered = scatter(hash.bits());
        let mut best: Option<(u32, usize)> = None;
        for band in &self.bands {
            let own = scattered >> band.shift & band.mask;
            for pattern in &band.patterns {
                let mut next = band.heads[(own ^ pattern) as usize] as usize;
                while next > 0 {
                    let position = next - 1;
                    let distance = (self.kept[position] ^ scattered).count_ones();
                    if distance <= self.threshold && best.is_none_or(|best| (distance, position) < best) {
                        best = Some((distance, position));
                    }
                    next = band.older[position] as usize;
                }
            }
        }
        best.map(|(distance, position)| Twin { position, distance })
    }

    /// Keeps the next image in canonical order, or returns the kept one that it duplicates.
    pub fn decide(&mut self, hash: DHash) -> DuplicateDecision {
        match self.nearest(hash) {
            Some(twin) => DuplicateDecision::NearDuplicate(twin),
            None => DuplicateDecision::Kept(self.keep(hash)),
        }
    }
}

impl fmt::Debug for NearDuplicates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { threshold, bands, kept } = self;
        write!(out, "NearDuplicates(threshold {threshold}, {} bands, {} kept)", bands.len(), kept.len())
    }
}

/// Moves bit `i` to bit `13 i mod 64`, which keeps distances. Neighbouring bits of an image's hash
/// are correlated, so a band of neighbours would fill few buckets.
fn scatter(bits: u64) -> u64 {
    const STEP: usize = 13;
    const TABLES: [[u64; 256]; 8] = {
        let mut tables = [[0; 256]; 8];
        let mut byte = 0;
        while byte < 8 {
            let mut value = 0;
            while value < 256 {
                let mut bit = 0;
                while bit < 8 {
                    if value >> bit & 1 == 1 {
                        tables[byte][value] |= 1 << ((byte * 8 + bit) * STEP % 64);
                    }
                    bit += 1;
                }
                value += 1;
            }
            byte += 1;
        }
        tables
    };
    static SCATTERED: [[u64; 256]; 8] = TABLES;
    bits.to_le_bytes().iter().zip(&SCATTERED).fold(0, |all, (byte, table)| all | table[usize::from(*byte)])
}

/// Chooses the number of bands with the cheapest search, counted in buckets and comparisons.
fn plan(threshold: u32) -> Vec<HashBand> {
    let layout = |count: u32| (0..count).map(move |index| (index * 64 / count, (index + 1) * 64 / count));
    // The sum of `radius + 1` must be `threshold + 1`. The remainder widens the first bands. A band
    // without a share is left out.
    let radius = move |count: u32, index: u32| {
        let share = (threshold + 1) / count + u32::from(index < (threshold + 1) % count);
        share.checked_sub(1)
    };
    let cost = |count: u32| -> f64 {
        let bands = layout(count).enumerate();
        let visits = bands.filter_map(|(index, (from, to))| {
            let bits = to - from;
            let buckets: u64 = (0..=radius(count, index as u32)?).map(|ones| binomial(bits, ones)).sum();
            Some(buckets as f64 * (1.0 + PLANNED_HASHES / f64::from(1u32 << bits)))
        });
        visits.sum()
    };
    let counts = 64 / MAX_BAND_BITS..=threshold.max(3) + 1;
    let best = counts.min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(64 / MAX_BAND_BITS);
    let bands = layout(best).enumerate();
    bands.filter_map(|(index, (from, to))| Some(HashBand::new(from, to - from, radius(best, index as u32)?))).collect()
}

/// Returns the binomial coefficient.
fn binomial(bits: u32, ones: u32) -> u64 {
    (0..ones).fold(1, |product, taken| product * u64::from(bits.saturating_sub(taken)) / u64::from(taken + 1))
}

impl HashBand {
    fn new(shift: u32, bits: u32, radius: u32) -> Self {
        let mut patterns: Vec<u64> = (0..1u64 << bits).filter(|pattern| pattern.count_ones() <= radius).collect();
        patterns.sort_by_key(|pattern| pattern.count_ones());
        Self { shift, mask: (1 << bits) - 1, patterns, heads: vec![0; 1 << bits], older: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reference implementation without an index.
    fn brute_force(hashes: &[u64], threshold: u32) -> Vec<DuplicateDecision> {
        let mut kept: Vec<u64> = Vec::new();
        let decide = |hash: &u64| {
            let near = kept.iter().enumerate().map(|(position, other)| ((hash ^ other).count_ones(), position)).min();
            match near.filter(|(distance, _)| *distance <= threshold) {
                Some((distance, position)) => DuplicateDecision::NearDuplicate(Twin { position, distance }),
                None => {
                    kept.push(*hash);
                    DuplicateDecision::Kept(kept.len() - 1)
                }
            }
        };
        hashes.iter().map(decide).collect()
    }

    /// Generates hashes around a few centres, so that all distances occur.
    fn clustered() -> impl Strategy<Value = Vec<u64>> {
        let flips = prop::collection::vec(0u32..64, 0..24);
        let around = (0usize..4, flips);
        (prop::array::uniform4(any::<u64>()), prop::collection::vec(around, 1..120)).prop_map(|(centres, members)| {
            let flip = |hash: u64, bit: u32| hash ^ 1 << bit;
            members.into_iter().map(|(centre, bits)| bits.into_iter().fold(centres[centre], flip)).collect()
        })
    }

    proptest! {
        #[test]
        fn the_index_equals_brute_force(hashes in clustered(), threshold in 0u32..=16) {
            let mut index = NearDuplicates::new(threshold).unwrap();
            let decisions: Vec<DuplicateDecision> = hashes.iter().map(|hash| index.decide(DHash::from_bits(*hash))).collect();
            prop_assert_eq!(decisions, brute_force(&hashes, threshold));
        }

        #[test]
        fn duplicates_among_kept_hashes_find_the_first(hashes in clustered(), threshold in 0u32..=16) {
            let mut index = NearDuplicates::new(threshold).unwrap();
            for hash in &hashes {
                index.keep(DHash::from_bits(*hash));
            }
            for hash in &hashes {
                let first = hashes.iter().position(|other| other == hash).unwrap();
                let nearest = index.nearest(DHash::from_bits(*hash));
                prop_assert_eq!(nearest, Some(Twin { position: first, distance: 0 }));
            }
        }

        #[test]
        fn scattering_keeps_distances(one: u64, other: u64) {
            prop_assert_eq!((scatter(one) ^ scatter(other)).count_ones(), (one ^ other).count_ones());
        }
    }

    #[test]
    fn the_radii_cover_every_threshold() {
        for threshold in 0..=NearDuplicates::MAX_THRESHOLD {
            let bands = plan(threshold);
            let covered: u32 = bands.iter().map(|band| band.patterns.last().unwrap().count_ones() + 1).sum();
            assert!(covered > threshold, "threshold {threshold}: {covered}");
            assert!(bands.iter().all(|band| band.mask.count_ones() <= MAX_BAND_BITS));
        }
        assert!(NearDuplicates::new(17).unwrap_err().to_string().contains("0 to 16"));
    }
}
