//! The selection of entries that become images, in the order of labels. Of exact and near
//! duplicates only the first is accepted; all others are decided by their measurements. A pure
//! function that never revises earlier decisions.

use std::collections::HashMap;

use super::entry::Entry;
use crate::ids::{Digest, ImageId};
use crate::imaging::{DHash, DuplicateDecision, NearDuplicates, ThresholdError};
use crate::stages::Rejection;
use crate::tables::{Measurement, SourceRow};

/// Decides about the new `entries` (sorted), given the decisions about earlier ones (`prior`).
///
/// `near_duplicate_bits` is the maximum Hamming distance of the perceptual hashes of near
/// duplicates; without it only files with equal bytes are duplicates. The result has one row per
/// entry, in order.
///
/// # Errors
/// The index does not support the distance.
pub(super) fn select(
    prior: &[SourceRow],
    entries: &[Entry],
    measured: &HashMap<Digest, Measurement>,
    near_duplicate_bits: Option<u32>,
) -> Result<Vec<SourceRow>, ThresholdError> {
    let mut selection = Selection::from_prior(prior, near_duplicate_bits)?;
    Ok(entries.iter().map(|entry| selection.decide(entry, measured)).collect())
}

/// The decisions so far.
struct Selection {
    /// The first label of each blob, and its rejection, if it was rejected.
    seen: HashMap<Digest, (String, Option<Rejection>)>,
    near: Option<NearDuplicates>,
    /// The images of the near-duplicate index, by their position in it.
    kept: Vec<(ImageId, String)>,
}

impl Selection {
    fn from_prior(prior: &[SourceRow], near_duplicate_bits: Option<u32>) -> Result<Self, ThresholdError> {
        let near = near_duplicate_bits.map(NearDuplicates::new).transpose()?;
        let mut selection = Self { seen: HashMap::new(), near, kept: Vec::new() };
        for row in prior {
            let Some(image) = row.image_id else { continue };
            if row.reason.as_deref() == Some("duplicate") {
                continue;
            }
            let rejection = row.reason.clone().map(|reason| Rejection {
                twin: row.twin_id.map(|id| id.0),
                ..Rejection::new(reason, row.detail.as_deref().unwrap_or_default())
            });
            if rejection.is_none() {
                selection.add_to_index(image, &row.display_name(), row.perceptual_hash);
            }
            selection.seen.entry(image.0).or_insert((row.display_name(), rejection));
        }
        Ok(selection)
    }

    /// Adds an accepted image of an earlier ingest to the near-duplicate index.
    fn add_to_index(&mut self, image: ImageId, label: &str, hash: Option<u64>) {
        let hash = hash.filter(|hash| is_distinctive(*hash));
        if let (Some(near), Some(hash)) = (&mut self.near, hash.map(DHash::from_bits)) {
            near.keep(hash);
            self.kept.push((image, label.to_owned()));
        }
    }

    fn decide(&mut self, entry: &Entry, measured: &HashMap<Digest, Measurement>) -> SourceRow {
        let measurement = entry.blob.and_then(|blob| measured.get(&blob));
        let rejection = match (entry.blob, &entry.rejection) {
            (_, Some(rejection)) => Some(rejection.clone()),
            (None, None) => Some(Rejection::new("unreadable", "it has no bytes")),
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
            twin_id: rejection.as_ref().and_then(|rejection| rejection.twin).map(ImageId),
            reason: rejection.as_ref().map(|rejection| rejection.reason.clone().into_owned()),
            detail: rejection.map(|rejection| rejection.detail),
        }
    }

    fn decide_blob(&mut self, id: ImageId, entry: &Entry, measurement: Option<&Measurement>) -> Option<Rejection> {
        if let Some((first, rejection)) = self.seen.get(&id.0) {
            return Some(match rejection {
                None => {
                    Rejection { twin: Some(id.0), ..Rejection::new("duplicate", format!("the same bytes as {first}")) }
                }
                Some(first_one) => {
                    let detail = format!("the same bytes as {first}: {}", first_one.detail);
                    Rejection { detail, ..first_one.clone() }
                }
            });
        }
        let name = entry.display_name();
        let rejection = match measurement {
            None => Some(Rejection::new("unreadable", "it was not measured")),
            Some(Measurement { reason: Some(reason), detail, .. }) => {
                Some(Rejection::new(reason.clone(), detail.as_deref().unwrap_or_default()))
            }
            Some(m) => self.find_near_duplicate(id, &name, m.perceptual_hash?),
        };
        self.seen.insert(id.0, (name, rejection.clone()));
        rejection
    }

    fn find_near_duplicate(&mut self, id: ImageId, name: &str, hash: u64) -> Option<Rejection> {
        let near = self.near.as_mut().filter(|_| is_distinctive(hash))?;
        match near.decide(DHash::from_bits(hash)) {
            DuplicateDecision::Kept(_) => {
                self.kept.push((id, name.to_owned()));
                None
            }
            DuplicateDecision::NearDuplicate(twin) => {
                let (image, first) = &self.kept[twin.position];
                let detail = format!("its perceptual hash is {} of 64 bits from that of {first}", twin.distance);
                Some(Rejection { twin: Some(image.0), ..Rejection::new("near_duplicate", detail) })
            }
        }
    }
}

/// Whether a perceptual hash distinguishes images. Flat images and plain gradients all have nearly
/// the same hash: every pixel is brighter than its left neighbour, or none is.
fn is_distinctive(hash: u64) -> bool {
    (MIN_EDGES..=64 - MIN_EDGES).contains(&hash.count_ones())
}

/// Minimum number of zeros, and of ones, in a distinctive hash.
const MIN_EDGES: u32 = 8;
