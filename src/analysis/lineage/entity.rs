//! Things that an id can name.

use serde::Serialize;

use crate::ids::Digest;

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
