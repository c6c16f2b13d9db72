//! Entities that an id can name.

use serde::Serialize;

use crate::ids::Digest;

/// Kind of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntityKind {
    /// A sample of the Questioner, or a row of the curriculum.
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
    /// An object of the store.
    Object,
}

impl EntityKind {
    /// Returns the name of the kind.
    pub fn name(self) -> &'static str {
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

/// An entity that an id may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Candidate {
    /// Kind.
    pub kind: EntityKind,
    /// Full id.
    pub id: Digest,
}
