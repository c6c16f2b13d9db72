//! Lineage of an entity of a store: what a question, answer, image, model or result was derived
//! from, and what was derived from it.

mod catalogue;
mod describe;
mod entity;
mod error;
mod image;
mod question;
mod search;
mod weights;

use serde::Serialize;
use serde_json::{Value, json};

pub use self::catalogue::RoundPosition;
pub use self::entity::{Candidate, EntityKind};
pub use self::error::LineageError;

use self::catalogue::Catalogue;
use self::search::search;
use crate::ids::Digest;
use crate::store::Store;

/// Minimum number of digits of an id to look up.
pub const FEWEST_DIGITS: usize = 4;

/// Lineage of one entity.
#[derive(Debug, Clone, Serialize)]
pub struct Lineage {
    /// Kind of the entity.
    pub kind: EntityKind,
    /// Full id.
    pub id: Digest,
    /// Description of the entity.
    pub what: Value,
    /// Everything the entity was derived from.
    pub up: Value,
    /// Everything derived from the entity.
    pub down: Value,
}

/// Finds the entity with this id, or whose id begins with these digits, and returns its lineage.
///
/// # Errors
/// See [`LineageError`].
pub fn lineage(store: &Store, prefix: &str) -> Result<Lineage, LineageError> {
    let is_hex = prefix.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    if !(FEWEST_DIGITS..=Digest::HEX_LEN).contains(&prefix.len()) || !is_hex {
        return Err(LineageError::NoId(prefix.to_owned()));
    }
    let catalogue = Catalogue::read(store)?;
    let found = search(&catalogue, prefix)?;
    let candidates: Vec<Candidate> = found.keys().copied().collect();
    let candidate = match candidates.as_slice() {
        [] => return Err(LineageError::Unknown(prefix.to_owned())),
        [one] => *one,
        _ => return Err(LineageError::Ambiguous { prefix: prefix.to_owned(), candidates }),
    };
    let Candidate { kind, id } = candidate;
    let places = found.get(&candidate).cloned().unwrap_or_default();
    let (what, up, down) = match kind {
        EntityKind::Question => question::of_question(&catalogue, id, &places)?,
        EntityKind::Answer => question::of_answer(&catalogue, id, &places)?,
        EntityKind::Image => image::of_image(&catalogue, id, &places)?,
        EntityKind::Item => image::of_item(&catalogue, id, &places)?,
        EntityKind::Model => weights::of_model(&catalogue, id)?,
        EntityKind::Prompt => (describe::prompt(&catalogue, id)?, json!({}), describe::used_prompt(&catalogue, id)),
        EntityKind::Result => describe::of_results(&catalogue, &places)?,
        EntityKind::Object => describe::of_object(&catalogue, id, &places)?,
    };
    Ok(Lineage { kind, id, what, up, down })
}
