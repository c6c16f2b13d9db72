//! Errors of a lineage query.

use super::entity::Candidate;
use crate::store::StoreError;
use crate::tables::TableError;

/// A result that may be an error of a lineage.
pub(super) type Result<T> = std::result::Result<T, LineageError>;

/// An error of a lineage query.
#[derive(Debug, thiserror::Error)]
pub enum LineageError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The text is not an id.
    #[error("`{0}` is not an id; pass 4 to 64 hexadecimal digits (0-9, a-f)")]
    NoId(String),
    /// No entity has the id.
    #[error("no id in the store begins with `{0}`")]
    Unknown(String),
    /// Several entities match.
    #[error("`{prefix}` is ambiguous: {} ids begin with it", candidates.len())]
    Ambiguous {
        /// Digits that were searched for.
        prefix: String,
        /// Entities whose ids begin with them.
        candidates: Vec<Candidate>,
    },
}
