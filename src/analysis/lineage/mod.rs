//! Lineage: everything up and down of one thing of a store: what a question, an answer, an image, a model or a result came from, and what
//! came of it.

mod catalogue;
mod describe;
mod entity;
mod error;
mod picture;
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

/// The fewest digits of an id that are looked up.
pub const FEWEST_DIGITS: usize = 4;

/// The lineage of one thing.
#[derive(Debug, Clone, Serialize)]
pub struct Lineage {
    /// What it is.
    pub kind: EntityKind,
    /// Its whole id.
    pub id: Digest,
    /// The thing itself.
    pub what: Value,
    /// What it came from.
    pub up: Value,
    /// What came of it.
    pub down: Value,
}

/// Finds what an id, or the first digits of one, names, and what it came from and led to.
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
        EntityKind::Image => picture::of_image(&catalogue, id, &places)?,
        EntityKind::Item => picture::of_item(&catalogue, id, &places)?,
        EntityKind::Model => weights::of_model(&catalogue, id)?,
        EntityKind::Prompt => (describe::prompt(&catalogue, id)?, json!({}), describe::used_prompt(&catalogue, id)),
        EntityKind::Result => describe::of_results(&catalogue, &places)?,
        EntityKind::Object => describe::of_object(&catalogue, id, &places)?,
    };
    Ok(Lineage { kind, id, what, up, down })
}
