//! Select: decides for every entry of the sources whether it becomes an image, in the order of labels: exact duplicates once,
//! near duplicates once, everything else by its measurement. A pure function; earlier decisions stand.

use std::collections::HashMap;

use super::scan::{Entry, Refusal, refusal};
use crate::ids::{Digest, ImageId};
use crate::imaging::{DHash, DuplicateDecision, NearDuplicates, ThresholdError};
use crate::tables::{Measurement, SourceRow};

/// Decides over the new `entries` (sorted), after what was decided over earlier ones (`prior`).
///
/// `near_duplicate_bits` is the largest Hamming distance of perceptual hashes at which two images count as the same; without
/// it only equal bytes do. The result has one row an entry, in order.
///
/// # Errors
/// A distance that the index does not search.
pub(super) fn select(
    prior: &[SourceRow],
    entries: &[Entry],
    measured: &HashMap<Digest, Measurement>,
    near_duplicate_bits: Option<u32>,
) -> Result<Vec<SourceRow>, ThresholdError> {
    let mut selection = Selection::after(prior, near_duplicate_bits)?;
    Ok(entries.iter().map(|entry| selection.decide(entry, measured)).collect())
}

/// What is decided so far.
struct Selection {
    /// The first label of each blob, and why it was left out, if it was.
    seen: HashMap<Digest, (String, Option<LeftOut>)>,
    near: Option<NearDuplicates>,
    /// The images of the near-duplicate index, by their place in it.
    kept: Vec<(ImageId, String)>,
}

impl Selection {
    fn after(prior: &[SourceRow], near_duplicate_bits: Option<u32>) -> Result<Self, ThresholdError> {
        let near = near_duplicate_bits.map(NearDuplicates::new).transpose()?;
        let mut selection = Self { seen: HashMap::new(), near, kept: Vec::new() };
        for row in prior {
            let Some(image) = row.image_id else { continue };
            if row.reason.as_deref() == Some("duplicate") {
                continue;
            }
            let why = |reason| refusal(reason, row.detail.as_deref().unwrap_or_default());
            let left_out = row.reason.as_deref().map(|reason| (why(reason), row.twin_id));
            if left_out.is_none() {
                selection.keep(image, &row.shown(), row.perceptual_hash);
            }
            selection.seen.entry(image.0).or_insert((row.shown(), left_out));
        }
        Ok(selection)
    }

    /// Enters an accepted image of an earlier ingest into the near-duplicate index.
    fn keep(&mut self, image: ImageId, label: &str, hash: Option<u64>) {
        let hash = hash.filter(|hash| says_something(*hash));
        if let (Some(near), Some(hash)) = (&mut self.near, hash.map(DHash::from_bits)) {
            near.keep(hash);
            self.kept.push((image, label.to_owned()));
        }
    }

    fn decide(&mut self, entry: &Entry, measured: &HashMap<Digest, Measurement>) -> SourceRow {
        let measurement = entry.blob.and_then(|blob| measured.get(&blob));
        let left_out = match (entry.blob, &entry.refusal) {
            (_, Some(refusal)) => Some((refusal.clone(), None)),
            (None, None) => Some((refusal("unreadable", "it has no bytes"), None)),
            (Some(blob), None) => self.decide_blob(ImageId(blob), entry, measurement),
        };
        SourceRow {
            source: entry.label.clone(),
            source_row: entry.row,
            image_id: entry.blob.map(ImageId),
            size: entry.bytes,
            format: measurement.and_then(|m| m.format.clone()),
            width: measurement.and_then(|m| m.width),
            height: measurement.and_then(|m| m.height),
            orientation: measurement.and_then(|m| m.orientation),
            perceptual_hash: measurement.and_then(|m| m.perceptual_hash),
            reason: left_out.as_ref().map(|(r, _)| r.reason.clone()),
            detail: left_out.as_ref().map(|(r, _)| r.detail.clone()),
            twin_id: left_out.and_then(|(_, twin)| twin),
        }
    }

    fn decide_blob(&mut self, id: ImageId, entry: &Entry, measurement: Option<&Measurement>) -> Option<LeftOut> {
        if let Some((first, left_out)) = self.seen.get(&id.0) {
            return Some(match left_out {
                None => (refusal("duplicate", &format!("the same bytes as {first}")), Some(id)),
                Some((why, twin)) => {
                    (refusal(&why.reason, &format!("the same bytes as {first}: {}", why.detail)), *twin)
                }
            });
        }
        let shown = entry.shown();
        let left_out = match measurement {
            None => Some((refusal("unreadable", "it was not measured"), None)),
            Some(Measurement { reason: Some(reason), detail, .. }) => {
                Some((refusal(reason, detail.as_deref().unwrap_or_default()), None))
            }
            Some(m) => self.near_twin(id, &shown, m.perceptual_hash?),
        };
        self.seen.insert(id.0, (shown, left_out.clone()));
        left_out
    }

    fn near_twin(&mut self, id: ImageId, shown: &str, hash: u64) -> Option<LeftOut> {
        let near = self.near.as_mut().filter(|_| says_something(hash))?;
        match near.decide(DHash::from_bits(hash)) {
            DuplicateDecision::Kept(_) => {
                self.kept.push((id, shown.to_owned()));
                None
            }
            DuplicateDecision::NearDuplicate(twin) => {
                let (image, first) = &self.kept[twin.position];
                let detail = format!("its perceptual hash is {} of 64 bits from that of {first}", twin.distance);
                Some((refusal("near_duplicate", &detail), Some(*image)))
            }
        }
    }
}

/// Whether a perceptual hash tells one image from another. Flat images and plain gradients all have (nearly) the same: every
/// pixel is brighter than its left neighbour, or none is.
fn says_something(hash: u64) -> bool {
    (MIN_EDGES..=64 - MIN_EDGES).contains(&hash.count_ones())
}

/// The fewest bits of either kind in a hash that says something.
const MIN_EDGES: u32 = 8;

/// Why an entry is left out, and the image kept in its place.
type LeftOut = (Refusal, Option<ImageId>);
