//! Refs: names for results, each with a history.
//!
//! A name is a sequence of numbered files, created once and never rewritten. The last is the head.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Store;
use super::backend::{PublishMode, PublishOutcome};
use super::checksum;
use super::error::StoreError;
use super::key::ActionKey;
use super::layout::{self, StoreFile};

/// One entry in the history of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ref {
    /// Name of the evolution.
    pub evolution: String,
    /// Name within the evolution, such as `images` or `round-0003/reasoner`.
    pub name: String,
    /// Position in the sequence, from 1.
    pub sequence: u32,
    /// Key of the action whose result is named.
    pub result: ActionKey,
    /// Key of the previous entry's result, so that a lost entry can be restored.
    pub previous: Option<ActionKey>,
    /// Creation time in milliseconds since 1970, for people.
    pub made_ms: u64,
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.evolution, self.name, self.sequence)
    }
}

impl Ref {
    /// Returns the round that the name belongs to and the part of it, such as `reasoner`.
    pub fn round_part(&self) -> Option<(u32, &str)> {
        let (round, part) = self.name.strip_prefix("round-")?.split_once('/')?;
        Some((round.parse().ok()?, part))
    }
}

/// Outcome of advancing a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefUpdate {
    /// The name now refers to the result.
    Applied(Ref),
    /// Another process stored another result at this position first.
    Conflict(Ref),
}

/// Whether a text can name an evolution or one part of a ref's name: up to 64 letters, digits, `.`,
/// `_` and `-`, not starting with `.` or `-`.
pub fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.len() <= 64 && text.chars().all(plain) && !text.starts_with(['.', '-'])
}

impl Store {
    /// Returns the newest ref of a name.
    pub fn head(&self, evolution: &str, name: &str) -> Result<Option<Ref>, StoreError> {
        let folder = format!("{}/{evolution}/{name}", layout::REFS);
        let newest = self.backend.list(&folder)?.into_iter().filter_map(|e| match StoreFile::of(&e.name) {
            StoreFile::Ref(ev, n, sequence) if ev == evolution && n == name => Some((sequence, e.name)),
            _ => None,
        });
        newest.max().map(|(_, file)| self.read_ref(&file)).transpose()
    }

    /// Returns all refs of the store, sorted by name and sequence. Damaged files are skipped;
    /// `verify` reports them.
    pub fn refs(&self) -> Result<Vec<Ref>, StoreError> {
        let files = self.backend.list(layout::REFS)?;
        Ok(files.iter().filter_map(|e| self.read_ref(&e.name).ok()).collect())
    }

    /// Adds a result to a name's sequence, directly after the head that the work was based on.
    pub fn advance(
        &self,
        evolution: &str,
        name: &str,
        after: Option<&Ref>,
        result: ActionKey,
    ) -> Result<RefUpdate, StoreError> {
        let sequence = after.map_or(0, |r| r.sequence) + 1;
        let new = Ref {
            evolution: evolution.into(),
            name: name.into(),
            sequence,
            result,
            previous: after.map(|r| r.result),
            made_ms: super::now_ms(),
        };
        let file = layout::reference(evolution, name, sequence);
        match self.put_file(&file, &checksum::with_checksum(&new)?, PublishMode::CreateOnly)? {
            PublishOutcome::Published => Ok(RefUpdate::Applied(new)),
            PublishOutcome::NameTaken => {
                let existing = self.read_ref(&file)?;
                let same = existing.result == result;
                Ok(if same { RefUpdate::Applied(existing) } else { RefUpdate::Conflict(existing) })
            }
        }
    }

    /// Restores refs that are missing from the middle of a name's sequence; the ref after a missing
    /// one records which result the missing one named. Returns the readable part of the sequence,
    /// oldest first.
    pub fn restore_ref_sequence(&self, evolution: &str, name: &str) -> Result<Vec<Ref>, StoreError> {
        let mut refs: Vec<Ref> =
            self.refs()?.into_iter().filter(|r| r.evolution == evolution && r.name == name).collect();
        refs.sort_by_key(|r| r.sequence);
        let mut i = 0;
        while let Some(r) = refs.get(i).cloned() {
            let lost = r.sequence > 1 && (i == 0 || refs[i - 1].sequence + 1 < r.sequence);
            let (true, Some(result)) = (lost, r.previous) else {
                i += 1;
                continue;
            };
            let sequence = r.sequence - 1;
            let made_ms = super::now_ms();
            // The lost ref's own `previous` is lost with it, so a gap of two cannot be filled.
            let restored = Ref { sequence, result, previous: None, made_ms, ..r };
            let file = layout::reference(evolution, name, sequence);
            if self.put_file(&file, &checksum::with_checksum(&restored)?, PublishMode::CreateOnly)?
                == PublishOutcome::NameTaken
            {
                return Err(StoreError::damaged(file, "it exists but cannot be read"));
            }
            refs.insert(i, restored);
        }
        Ok(refs)
    }

    pub(super) fn read_ref(&self, file: &str) -> Result<Ref, StoreError> {
        let bytes = self.read_existing(file)?;
        let read: Ref = checksum::verify_checksum(file, &bytes)?;
        if layout::reference(&read.evolution, &read.name, read.sequence) != file {
            return Err(StoreError::damaged(file, format!("it contains the ref {read}")));
        }
        Ok(read)
    }
}
