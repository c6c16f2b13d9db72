//! Lineage: everything up and down of one thing of a store: what a question, an answer, an image, a model or a result came from, and what
//! came of it.

mod catalogue;
mod describe;
mod picture;
mod question;
mod search;
mod weights;

use serde::Serialize;
use serde_json::{Value, json};

pub use self::catalogue::RoundPosition;

use self::catalogue::Catalogue;
use self::search::search;
use crate::ids::Digest;
use crate::store::{Store, StoreError};
use crate::tables::TableError;

/// The fewest digits of an id that are looked up.
pub const FEWEST_DIGITS: usize = 4;

/// What an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntityKind {
    /// A sample of the Questioner; also a row of the curriculum.
    Question,
    /// A sample of the Reasoner.
    Answer,
    /// An image.
    Image,
    /// An item of a benchmark.
    Item,
    /// Weights.
    Model,
    /// A prompt template.
    Prompt,
    /// An action and its result.
    Result,
    /// Bytes of the store.
    Object,
}

impl EntityKind {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Question => "question",
            Self::Answer => "answer",
            Self::Image => "image",
            Self::Item => "benchmark item",
            Self::Model => "model",
            Self::Prompt => "prompt",
            Self::Result => "result",
            Self::Object => "object",
        }
    }
}

/// Something that an id may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Candidate {
    /// What it is.
    pub kind: EntityKind,
    /// Its whole id.
    pub id: Digest,
}

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

/// Why there is no lineage.
#[derive(Debug, thiserror::Error)]
pub enum LineageError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Not an id.
    #[error("`{0}` is no id: ids have 4 to 64 digits 0-9 a-f")]
    NoId(String),
    /// Nothing goes by the id.
    #[error("nothing in the store has an id that begins with `{0}`")]
    Unknown(String),
    /// Several things do.
    #[error("`{prefix}` is not enough: {} ids begin with it", candidates.len())]
    Ambiguous {
        /// The digits.
        prefix: String,
        /// What they may name.
        candidates: Vec<Candidate>,
    },
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
