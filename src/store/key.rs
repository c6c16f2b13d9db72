//! Keys of actions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, ParseDigestError};

const CONTEXT: &str = "visplay 2026-11 action key v1";

/// Key of an action: a digest of its canonical JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionKey(pub(super) Digest);

impl ActionKey {
    /// Returns a key of no action, for a lease on work that has no result. `context` names the kind
    /// of work.
    pub fn of_lease(context: &str, parts: &[&[u8]]) -> Self {
        Self(Digest::derive(context, parts))
    }

    /// Computes the key from the canonical JSON of an action.
    pub(super) fn of(preimage: &[u8]) -> Self {
        Self(Digest::from(blake3::Hash::from(blake3::derive_key(CONTEXT, preimage))))
    }
}

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ActionKey {
    type Err = ParseDigestError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self)
    }
}
