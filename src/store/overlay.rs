//! An overlay over a store: reads come from the store, writes go to a scratch folder.
//!
//! A dry run uses it to leave the store unchanged. A replay uses it to run stored actions again:
//! their results are hidden until they have been recomputed, and the stored ones are visible
//! afterwards. Later stages therefore read the stored results, so a result that differs does not
//! change the inputs of the stages after it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tempfile::TempDir;

use super::action::Action;
use super::backend::{Backend, Durability, FileEntry, PublishMode, PublishOutcome, StagedFile};
use super::claim::HeldLeases;
use super::error::StoreError;
use super::key::ActionKey;
use super::layout::{self, StoreFile};
use super::posix::PosixFolder;
use super::result::StageResult;
use super::{Store, checksum};

/// Backend that combines a store with a scratch folder.
#[derive(Debug)]
pub(super) struct Overlay {
    lower: Arc<dyn Backend>,
    upper: PosixFolder,
    /// Results that are still to be recomputed.
    pending: Mutex<BTreeSet<ActionKey>>,
    /// Whether actions that the store does not have are refused.
    stored_only: bool,
}

impl Overlay {
    fn pending(&self) -> MutexGuard<'_, BTreeSet<ActionKey>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a file of the store is a result that is still to be recomputed.
    fn is_hidden(&self, name: &str) -> bool {
        matches!(StoreFile::of(name), StoreFile::Result(key) if self.pending().contains(&key))
    }

    /// Looks a file up in the store. Other processes' leases and notes do not apply to
    /// the overlay.
    fn head_below(&self, name: &str) -> Result<Option<FileEntry>, StoreError> {
        if matches!(StoreFile::of(name), StoreFile::Claim(_) | StoreFile::Worker) {
            Ok(None)
        } else {
            self.lower.head(name)
        }
    }

    /// Checks whether an action may run over this store.
    pub(super) fn admit(&self, key: ActionKey, action: &Action) -> Result<(), StoreError> {
        if !self.stored_only {
            return Ok(());
        }
        if self.pending().is_empty() {
            return Err(StoreError::ReplayComplete);
        }
        match self.lower.head(&layout::action(key))? {
            Some(_) => Ok(()),
            None => Err(StoreError::ReplayDiverged { action: Box::new(action.clone()) }),
        }
    }
}

impl Backend for Overlay {
    fn stage(&self) -> Result<StagedFile, StoreError> {
        self.upper.stage()
    }

    fn publish(
        &self,
        staged: StagedFile,
        name: &str,
        mode: PublishMode,
        durability: Durability,
    ) -> Result<PublishOutcome, StoreError> {
        match StoreFile::of(name) {
            // The name is the digest of the bytes, so they need not be written again.
            StoreFile::Object(_) if self.head_below(name)?.is_some() => Ok(PublishOutcome::Published),
            StoreFile::Result(key) if self.pending().contains(&key) => {
                self.upper.publish(staged, name, PublishMode::Replace, durability)?;
                self.pending().remove(&key);
                Ok(PublishOutcome::NameTaken)
            }
            _ if mode == PublishMode::CreateOnly && self.head_below(name)?.is_some() => Ok(PublishOutcome::NameTaken),
            _ => self.upper.publish(staged, name, mode, durability),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        if self.is_hidden(name) {
            return Ok(None);
        }
        match self.head_below(name)? {
            Some(_) => self.lower.read(name),
            None => self.upper.read(name),
        }
    }

    fn head(&self, name: &str) -> Result<Option<FileEntry>, StoreError> {
        if self.is_hidden(name) {
            return Ok(None);
        }
        match self.head_below(name)? {
            Some(entry) => Ok(Some(entry)),
            None => self.upper.head(name),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<FileEntry>, StoreError> {
        let mut entries = self.lower.list(folder)?;
        let below: BTreeSet<String> = entries.iter().map(|entry| entry.name.clone()).collect();
        entries.extend(self.upper.list(folder)?.into_iter().filter(|entry| !below.contains(&entry.name)));
        entries.retain(|entry| !self.is_hidden(&entry.name));
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn now(&self) -> Result<SystemTime, StoreError> {
        self.upper.now()
    }

    fn touch(&self, name: &str) -> Result<(), StoreError> {
        // Keeps `gc` from removing files that a replay is about to read.
        if self.head_below(name)?.is_some() { self.lower.touch(name) } else { self.upper.touch(name) }
    }

    fn remove(&self, entry: &FileEntry) -> Result<(), StoreError> {
        if self.is_own(&entry.path) { self.upper.remove(entry) } else { Ok(()) }
    }

    fn quarantine(&self, entry: &FileEntry, name: &str) -> Result<(), StoreError> {
        if self.is_own(&entry.path) {
            return self.upper.quarantine(entry, name);
        }
        Err(StoreError::damaged(entry.name.clone(), "its outputs are missing or have another size"))
    }

    fn link(&self, _name: &str, _second: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Overlay {
    fn is_own(&self, path: &Path) -> bool {
        path.starts_with(self.upper.root())
    }
}

impl Store {
    /// Returns an overlay for replaying actions: the results of the `pending` ones are hidden until
    /// they have been recomputed.
    ///
    /// An action that the store does not have is refused with [`StoreError::ReplayDiverged`], and
    /// every action with [`StoreError::ReplayComplete`] once nothing is pending.
    pub fn replay_overlay(&self, scratch: &Path, pending: BTreeSet<ActionKey>) -> Self {
        self.overlay(scratch, pending, true)
    }

    /// Returns an overlay for a dry run: all writes go to the scratch folder.
    pub fn dry_overlay(&self, scratch: &Path) -> Self {
        self.overlay(scratch, BTreeSet::new(), false)
    }

    fn overlay(&self, scratch: &Path, pending: BTreeSet<ActionKey>, stored_only: bool) -> Self {
        let (lower, upper) = (Arc::clone(&self.backend), PosixFolder::new(scratch));
        let overlay = Arc::new(Overlay { lower, upper, pending: Mutex::new(pending), stored_only });
        let backend: Arc<dyn Backend> = Arc::<Overlay>::clone(&overlay);
        let (held, node_cache) = (HeldLeases::new(Arc::clone(&backend)), self.node_cache.clone());
        Self { root: self.root.clone(), held, backend, overlay: Some(overlay), node_cache }
    }

    /// Returns the recomputed result of an action; `None` if it was not recomputed.
    ///
    /// # Errors
    /// The scratch folder cannot be read.
    pub fn replayed_result(&self, key: ActionKey) -> Result<Option<StageResult>, StoreError> {
        let Some(overlay) = &self.overlay else { return Ok(None) };
        let name = layout::result(key);
        overlay.upper.read(&name)?.map(|bytes| checksum::verify_checksum(&name, &bytes)).transpose()
    }
}

/// Creates a folder with a unique name below `parent`; it is removed when the handle is dropped.
///
/// # Errors
/// The folder cannot be created.
pub fn scratch_folder(parent: &Path) -> Result<TempDir, StoreError> {
    let create = || {
        std::fs::create_dir_all(parent)?;
        tempfile::Builder::new().prefix("visplay-").tempdir_in(parent)
    };
    create().map_err(StoreError::io("create a scratch folder in", parent))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::{Counts, ObjectKind, Process, RunInfo};

    fn action(seed: u64) -> Action {
        Action { stage: "t".into(), seed, ..Action::default() }
    }

    fn result(action: ActionKey, count: u64) -> StageResult {
        StageResult {
            action,
            outputs: Vec::new(),
            counts: Counts::default(),
            statistics: BTreeMap::from([("n".into(), count)]),
            upstream: Vec::new(),
            run: RunInfo {
                process: Process::current(),
                program: "t".into(),
                job: None,
                device: None,
                began_ms: 0,
                took_ms: 0,
            },
        }
    }

    #[test]
    fn a_replayed_result_is_recorded_and_the_stored_one_stays_visible() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_or_create(&folder.path().join("store")).unwrap();
        let keys = [0, 1].map(|seed| store.put_action(&action(seed)).unwrap());
        for key in keys {
            store.publish_result(&result(key, 1)).unwrap();
        }
        let files = |store: &Store| {
            let files = store.files().unwrap();
            files.iter().map(|entry| (entry.name.clone(), entry.len)).collect::<Vec<_>>()
        };
        let before = files(&store);
        let scratch = scratch_folder(folder.path()).unwrap();
        let over = store.replay_overlay(scratch.path(), BTreeSet::from([keys[0]]));
        assert!(over.result_with_outputs(keys[0]).unwrap().is_none());
        assert!(over.result_with_outputs(keys[1]).unwrap().is_some());
        assert!(matches!(over.put_action(&action(2)), Err(StoreError::ReplayDiverged { .. })));
        over.put_object(b"{}", ObjectKind::Json).unwrap();
        let visible = over.publish_result(&result(keys[0], 2)).unwrap();
        assert_eq!(visible.statistics["n"], 1);
        assert_eq!(over.replayed_result(keys[0]).unwrap().unwrap().statistics["n"], 2);
        assert!(over.replayed_result(keys[1]).unwrap().is_none());
        assert!(matches!(over.put_action(&action(1)), Err(StoreError::ReplayComplete)));
        assert_eq!(files(&store), before);
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
    }
}
