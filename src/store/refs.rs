//! Refs: names for results. Each name is a sequence of files, created once and never rewritten; the last one is the head.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Store;
use super::action::ActionKey;
use super::backend::{PublishMode, PublishOutcome};
use super::checksum;
use super::error::StoreError;
use super::layout::{self, StoreFile};

/// A name for a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ref {
    /// The evolution.
    pub evolution: String,
    /// The name within it, such as `images` or `round-0003/reasoner`.
    pub name: String,
    /// The place in the name's sequence, from 1.
    pub sequence: u32,
    /// The action whose result this is.
    pub result: ActionKey,
    /// The result of the ref before it, so that a lost ref can be put back.
    pub previous: Option<ActionKey>,
    /// When it was made, in milliseconds since 1970: for people.
    pub made_ms: u64,
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.evolution, self.name, self.sequence)
    }
}

/// How advancing a ref went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefUpdate {
    /// The name now stands for the result.
    Applied(Ref),
    /// Another process put another result into that place first.
    Conflict(Ref),
}

/// Whether a text can name an evolution or one part of a ref's name: letters, digits, `.`, `_`, `-`, not starting with `.` or `-`.
pub fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.len() <= 64 && text.chars().all(plain) && !text.starts_with(['.', '-'])
}

impl Store {
    /// The newest ref of a name.
    pub fn head(&self, evolution: &str, name: &str) -> Result<Option<Ref>, StoreError> {
        let folder = format!("{}/{evolution}/{name}", layout::REFS);
        let newest = self.backend.list(&folder)?.into_iter().filter_map(|e| match StoreFile::of(&e.name) {
            StoreFile::Ref(ev, n, sequence) if ev == evolution && n == name => Some((sequence, e.name)),
            _ => None,
        });
        newest.max().map(|(_, file)| self.read_ref(&file)).transpose()
    }

    /// Every ref of the store, by name and sequence. Files that are not whole are left to `verify`.
    pub fn refs(&self) -> Result<Vec<Ref>, StoreError> {
        let files = self.backend.list(layout::REFS)?;
        Ok(files.iter().filter_map(|e| self.read_ref(&e.name).ok()).collect())
    }

    /// Puts a result into place `after + 1` of a name's sequence, where `after` is the head that the work was based on.
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
                let there = self.read_ref(&file)?;
                let same = there.result == result;
                Ok(if same { RefUpdate::Applied(there) } else { RefUpdate::Conflict(there) })
            }
        }
    }

    /// Puts refs that are gone from the middle of a name's sequence back: each says what the one before it named. The
    /// sequence, oldest first, as far as it can be read.
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
            // What the ref before the lost one named went with it: a gap of two cannot be filled.
            let restored = Ref { sequence, result, previous: None, made_ms, ..r };
            let file = layout::reference(evolution, name, sequence);
            if self.put_file(&file, &checksum::with_checksum(&restored)?, PublishMode::CreateOnly)?
                == PublishOutcome::NameTaken
            {
                return Err(StoreError::damaged(file, "it is there and cannot be read"));
            }
            refs.insert(i, restored);
        }
        Ok(refs)
    }

    pub(super) fn read_ref(&self, file: &str) -> Result<Ref, StoreError> {
        let bytes = self.backend.read(file)?.ok_or_else(|| StoreError::Missing { name: file.to_owned() })?;
        let read: Ref = checksum::verify_checksum(file, &bytes)?;
        if layout::reference(&read.evolution, &read.name, read.sequence) != file {
            return Err(StoreError::damaged(file, format!("it is the file of {read}")));
        }
        Ok(read)
    }
}
