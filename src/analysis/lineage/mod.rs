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
    #[serde(rename = "what")]
    pub description: Value,
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
    let matches = search(&catalogue, prefix)?;
    let candidates: Vec<Candidate> = matches.keys().copied().collect();
    let candidate = match candidates.as_slice() {
        [] => return Err(LineageError::Unknown(prefix.to_owned())),
        [one] => *one,
        _ => return Err(LineageError::Ambiguous { prefix: prefix.to_owned(), candidates }),
    };
    let Candidate { kind, id } = candidate;
    let keys = matches.get(&candidate).cloned().unwrap_or_default();
    let (description, up, down) = match kind {
        EntityKind::Question => question::question_lineage(&catalogue, id, &keys)?,
        EntityKind::Answer => question::answer_lineage(&catalogue, id, &keys)?,
        EntityKind::Image => image::image_lineage(&catalogue, id, &keys)?,
        EntityKind::Item => image::item_lineage(&catalogue, id, &keys)?,
        EntityKind::Model => weights::model_lineage(&catalogue, id)?,
        EntityKind::Prompt => {
            (describe::describe_prompt(&catalogue, id), json!({}), describe::find_prompt_uses(&catalogue, id))
        }
        EntityKind::Result => describe::result_lineage(&catalogue, &keys)?,
        EntityKind::Object => describe::object_lineage(&catalogue, id, &keys),
    };
    Ok(Lineage { kind, id, description, up, down })
}
