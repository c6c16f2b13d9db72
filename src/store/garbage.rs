//! Collect (`visplay gc`): removes what no ref leads to.
//!
//! Live is: every result that a ref names or that was used within a grace period (a run may be about to name it), its action, its outputs and its action's inputs, and the same for the results that it
//! was made from, so that the lineage of whatever is kept is kept too. What is not live and was not used for a grace
//! period is garbage. Workers touch a result before they build on it, and the time is looked at again right before removal.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::Store;
use super::action::ActionKey;
use super::backend::FileEntry;
use super::error::StoreError;
use super::layout::{self, ObjectId, StoreFile};

/// What to collect and whether to.
#[derive(Debug, Clone, Copy)]
pub struct GarbageOptions {
    /// Only what was not used for this long is garbage.
    pub grace: Duration,
    /// Remove it, rather than say what would go.
    pub delete: bool,
}

/// A file that no ref leads to.
#[derive(Debug, Clone, Serialize)]
pub struct GarbageFile {
    /// The file's name within the store.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
}

/// What a collection found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GarbageReport {
    /// Files that refs lead to.
    pub live: u64,
    /// Unreachable files still within the grace period.
    pub spared: u64,
    /// Files that went, or would go.
    pub garbage: Vec<Garbage>,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Finds, and with `delete` removes, what no ref leads to.
    ///
    /// # Errors
    /// A damaged or missing action, result or ref stops the collection: what it leads to cannot be known. `verify` comes first.
    pub fn collect_garbage(&self, options: GarbageOptions) -> Result<GarbageReport, StoreError> {
        let live = self.live(options.grace)?;
        let mut found = GarbageReport::default();
        for entry in self.backend.list("")? {
            match StoreFile::of(&entry.name) {
                StoreFile::Object(object) if live.objects.contains(&object) => found.live += 1,
                StoreFile::Action(key) | StoreFile::Result(key) if live.actions.contains(&key) => found.live += 1,
                StoreFile::Format | StoreFile::Ref(..) | StoreFile::Quarantined | StoreFile::Foreign => found.live += 1,
                // A lease in use is touched all the time, so the grace period tells it from a lost one.
                _ => self.sweep_up(&entry, options, &mut found)?,
            }
        }
        Ok(found)
    }

    fn sweep_up(
        &self,
        entry: &FileEntry,
        options: GarbageOptions,
        found: &mut GarbageReport,
    ) -> Result<(), StoreError> {
        if StoreFile::of(&entry.name) == StoreFile::View && self.view_is_live(entry)? {
            found.live += 1;
            return Ok(());
        }
        // The listing may be old by now: a worker may have used the file since.
        let Some(now) = self.backend.head(&entry.name)? else { return Ok(()) };
        if is_fresh(&now, options.grace) {
            found.spared += 1;
            return Ok(());
        }
        if options.delete {
            self.backend.remove(&now)?;
        }
        found.bytes += now.len;
        found.garbage.push(GarbageFile { name: entry.name.clone(), bytes: now.len });
        Ok(())
    }

    /// A view lives as long as its object has another name.
    fn view_is_live(&self, entry: &FileEntry) -> Result<bool, StoreError> {
        let file = entry.name.rsplit('/').next().unwrap_or_default();
        let object = file.rsplit('-').next().and_then(|name| {
            let (hex, ending) = name.split_once('.')?;
            Some(ObjectId { digest: hex.parse().ok()?, kind: ending.parse().ok()? })
        });
        match object {
            Some(object) => Ok(self.backend.head(&object.name())?.is_some()),
            None => Ok(true),
        }
    }

    fn live(&self, grace: Duration) -> Result<ReachableSet, StoreError> {
        let mut live = ReachableSet::default();
        let mut queue = Vec::new();
        for entry in self.backend.list(layout::REFS)? {
            if let StoreFile::Ref(..) = StoreFile::of(&entry.name) {
                queue.push(self.read_ref(&entry.name)?.result);
            }
        }
        for entry in self.backend.list(layout::RESULTS)? {
            if let (StoreFile::Result(key), true) = (StoreFile::of(&entry.name), is_fresh(&entry, grace)) {
                queue.push(key);
            }
        }
        while let Some(key) = queue.pop() {
            if !live.actions.insert(key) {
                continue;
            }
            let Some(result) = self.result(key)? else { return Err(StoreError::Missing { name: layout::result(key) }) };
            live.objects.extend(result.outputs.iter().map(|o| o.object));
            live.objects.extend(self.action(key)?.inputs.iter().map(|i| i.object));
            queue.extend(result.upstream);
        }
        Ok(live)
    }
}

/// Whether a file was used within the grace period. A time in the future, by another host's clock, is fresh.
fn is_fresh(entry: &FileEntry, grace: Duration) -> bool {
    entry.modified.elapsed().unwrap_or_default() < grace
}

#[derive(Default)]
struct ReachableSet {
    objects: BTreeSet<ObjectId>,
    actions: BTreeSet<ActionKey>,
}
