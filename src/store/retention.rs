//! Objects that were dropped on purpose, because they can be recomputed, and the settings that say
//! which ones.
//!
//! A note `dropped/ab/<object>.json` tells a dropped object from a lost one. It is written before
//! the object is removed, so an object without its file and without a note is lost. An object that
//! exists is there, whether or not it has a note: one that was recomputed keeps the note of the
//! time when it was dropped.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Store;
use super::backend::PublishMode;
use super::checksum;
use super::clock::now_ms;
use super::error::StoreError;
use super::layout::{self, ObjectId};
use super::process::Process;
use super::result::Output;

/// A note on an object that was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropNote {
    /// The object.
    pub object: ObjectId,
    /// Its size in bytes.
    pub bytes: u64,
    /// The process that dropped it.
    pub process: Process,
    /// Time of the first drop, in milliseconds since 1970.
    pub dropped_ms: u64,
}

impl Store {
    /// Whether an output's object exists in its recorded size.
    pub fn has_object(&self, output: &Output) -> Result<bool, StoreError> {
        let entry = self.backend.head(&output.object.name())?;
        Ok(entry.is_some_and(|entry| entry.is_file && entry.len == output.bytes))
    }

    /// Returns the note on an object that was dropped; `None` if the object exists, or is lost.
    ///
    /// # Errors
    /// The note is damaged.
    pub fn drop_note(&self, object: ObjectId) -> Result<Option<DropNote>, StoreError> {
        if self.backend.head(&object.name())?.is_some() {
            return Ok(None);
        }
        let name = layout::dropped(object);
        match self.backend.head(&name)? {
            Some(_) => self.read_drop_note(&name, object).map(Some),
            None => Ok(None),
        }
    }

    /// Whether an object does not exist because it was dropped.
    pub fn is_dropped(&self, object: ObjectId) -> Result<bool, StoreError> {
        Ok(self.has_drop_note(object)? && self.backend.head(&object.name())?.is_none())
    }

    /// Whether an object was dropped at some time; it may exist again.
    pub(super) fn has_drop_note(&self, object: ObjectId) -> Result<bool, StoreError> {
        Ok(self.backend.head(&layout::dropped(object))?.is_some())
    }

    /// Reads and checks the note on an object.
    pub(super) fn read_drop_note(&self, name: &str, object: ObjectId) -> Result<DropNote, StoreError> {
        let note: DropNote = checksum::verify_checksum(name, &self.read_existing(name)?)?;
        if note.object != object {
            return Err(StoreError::damaged(name, format!("it is the note on {}", note.object)));
        }
        Ok(note)
    }

    /// Writes the note on an object that is about to be removed.
    pub(super) fn put_drop_note(&self, object: ObjectId, bytes: u64) -> Result<(), StoreError> {
        if self.has_drop_note(object)? {
            return Ok(());
        }
        let note = DropNote { object, bytes, process: Process::current(), dropped_ms: now_ms() };
        // Notes of two processes differ only in who and when, so either may win.
        self.put_file(&layout::dropped(object), &checksum::with_checksum(&note)?, PublishMode::Replace).map(|_| ())
    }

    /// Removes the note on an object, so that a result that lists it counts as incomplete and is
    /// recomputed.
    pub fn forget_drop(&self, object: ObjectId) -> Result<(), StoreError> {
        match self.backend.head(&layout::dropped(object))? {
            Some(note) => self.backend.remove(&note),
            None => Ok(()),
        }
    }

    /// Reads the retention settings of an evolution; `None` if there are none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if they are damaged, or another version of the program wrote them.
    pub fn retention<T: DeserializeOwned + Serialize>(&self, evolution: &str) -> Result<Option<T>, StoreError> {
        let name = layout::retention(evolution);
        let Some(bytes) = self.backend.read(&name)? else { return Ok(None) };
        checksum::verify_checksum(&name, &bytes).map(Some)
    }

    /// Writes the retention settings of an evolution in place of earlier ones.
    pub fn set_retention<T: Serialize>(&self, evolution: &str, settings: &T) -> Result<(), StoreError> {
        let bytes = checksum::with_checksum(settings)?;
        self.put_file(&layout::retention(evolution), &bytes, PublishMode::Replace).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{GarbageOptions, ObjectKind, VerifyDepth};

    #[test]
    fn a_dropped_object_is_told_from_a_lost_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_or_create(folder.path()).unwrap();
        let [dropped, lost] = [b"a", b"b"].map(|bytes| store.put_object(bytes, ObjectKind::Json).unwrap());
        let options = GarbageOptions { grace: std::time::Duration::ZERO, delete: false };
        let listed = store.drop_objects(&[(dropped, 1)], options).unwrap();
        assert_eq!((listed.garbage.len(), listed.bytes), (1, 1));
        assert_eq!(store.drop_note(dropped).unwrap(), None);
        store.drop_objects(&[(dropped, 1)], GarbageOptions { delete: true, ..options }).unwrap();
        std::fs::remove_file(folder.path().join(lost.name())).unwrap();
        assert_eq!([dropped, lost].map(|object| store.is_dropped(object).unwrap()), [true, false]);
        assert_eq!(store.drop_note(dropped).unwrap().map(|note| note.bytes), Some(1));
        assert!(matches!(store.read_object(dropped), Err(StoreError::Missing { .. })));
        // Recomputed, it is there; its note stays and does no harm.
        store.put_object(b"a", ObjectKind::Json).unwrap();
        assert!(!store.is_dropped(dropped).unwrap());
        assert_eq!(store.read_object(dropped).unwrap(), b"a");
        assert!(store.verify(VerifyDepth::Full, false).unwrap().problems.is_empty());
        // A damaged note is found and moved away.
        std::fs::write(folder.path().join(layout::dropped(dropped)), b"{}").unwrap();
        let problems = store.verify(VerifyDepth::Full, true).unwrap().problems;
        assert_eq!(problems.iter().map(|p| &*p.name).collect::<Vec<_>>(), [layout::dropped(dropped)]);
        assert!(!store.has_drop_note(dropped).unwrap());
    }

    #[test]
    fn settings_are_replaced_and_damaged_ones_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_or_create(folder.path()).unwrap();
        let read = || store.retention::<std::collections::BTreeMap<String, u32>>("t");
        assert_eq!(read().unwrap(), None);
        for n in [1, 2] {
            let settings = std::collections::BTreeMap::from([("n".to_owned(), n)]);
            store.set_retention("t", &settings).unwrap();
            assert_eq!(read().unwrap(), Some(settings));
        }
        std::fs::write(folder.path().join(layout::retention("t")), b"{\"n\":3}").unwrap();
        assert!(matches!(read(), Err(StoreError::Damaged { .. })));
        assert_eq!(store.verify(VerifyDepth::Full, false).unwrap().problems.len(), 1);
    }
}
