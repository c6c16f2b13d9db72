//! Garbage collection (`visplay gc`): removes files that cannot be reached from any ref.
//!
//! Reachable are the results that a ref names, the results used within a grace period (a run may be
//! about to name them), and transitively all results that these were computed from, so that
//! everything that is kept keeps its lineage. Each reachable result keeps its action, its outputs
//! and its action's inputs. Everything else that was not used within the grace period is garbage.
//!
//! Workers touch a result before they build on it, and the time of a file is checked again right
//! before it is removed. Ages are counted by the clock of the store's file system, and nothing is
//! collected if this machine's clock differs from it by more than an hour.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::Store;
use super::backend::FileEntry;
use super::clock::to_ms;
use super::error::StoreError;
use super::key::ActionKey;
use super::layout::{self, ObjectId, StoreFile};

/// Difference between this machine's clock and the file system's above which ages are uncertain.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(3600);

/// Options of a garbage collection.
#[derive(Debug, Clone, Copy)]
pub struct GarbageOptions {
    /// Files used more recently than this are kept.
    pub grace: Duration,
    /// Whether to remove garbage, or only to list it.
    pub delete: bool,
}

/// An unreachable file.
#[derive(Debug, Clone, Serialize)]
pub struct GarbageFile {
    /// Name within the store.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// Outcome of a garbage collection.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GarbageReport {
    /// Number of files in use.
    pub live: u64,
    /// Number of unreachable files within the grace period.
    pub spared: u64,
    /// Files removed, or to be removed.
    pub garbage: Vec<GarbageFile>,
    /// Total size of the garbage in bytes.
    pub bytes: u64,
}

impl Store {
    /// Finds garbage, and removes it if the options say so.
    ///
    /// # Errors
    /// A damaged or missing action, result or ref stops the collection, because the files that it
    /// leads to are unknown. Run `verify` first. [`StoreError::ClocksDiffer`] if this machine's
    /// clock and that of the store's file system disagree.
    pub fn collect_garbage(&self, options: GarbageOptions) -> Result<GarbageReport, StoreError> {
        let now = match self.agreed_time() {
            // A list of a read-only store does no harm if the times are wrong.
            Err(e) if !options.delete && e.io_kind().is_some_and(is_read_only) => SystemTime::now(),
            now => now?,
        };
        let is_recent = |entry: &FileEntry| is_recent(entry, now, options.grace);
        let reachable = self.find_reachable(is_recent)?;
        let mut report = GarbageReport::default();
        for entry in self.backend.list("")? {
            match StoreFile::of(&entry.name) {
                StoreFile::Object(object) if reachable.objects.contains(&object) => report.live += 1,
                StoreFile::Action(key) | StoreFile::Result(key) if reachable.actions.contains(&key) => report.live += 1,
                StoreFile::Format
                | StoreFile::Ref(..)
                | StoreFile::Job
                | StoreFile::Log
                | StoreFile::Quarantined
                | StoreFile::Foreign => report.live += 1,
                // Workers touch their leases and notes all the time, so only an abandoned one is
                // older than the grace period.
                _ => self.collect_file(&entry, is_recent, options.delete, &mut report)?,
            }
        }
        if let (true, Some(before)) = (options.delete, now.checked_sub(options.grace)) {
            self.backend.remove_empty_folders(before);
        }
        Ok(report)
    }

    /// Returns the time of the store's file system if this machine's clock agrees with it.
    fn agreed_time(&self) -> Result<SystemTime, StoreError> {
        let (file_system, local) = (self.backend.now()?, SystemTime::now());
        let difference = local.duration_since(file_system).unwrap_or_else(|e| e.duration());
        if difference > MAX_CLOCK_DIFFERENCE {
            return Err(StoreError::ClocksDiffer { local_ms: to_ms(local), file_system_ms: to_ms(file_system) });
        }
        Ok(file_system)
    }

    fn collect_file(
        &self,
        entry: &FileEntry,
        is_recent: impl Fn(&FileEntry) -> bool,
        delete: bool,
        report: &mut GarbageReport,
    ) -> Result<(), StoreError> {
        if StoreFile::of(&entry.name) == StoreFile::View && self.is_view_live(entry)? {
            report.live += 1;
            return Ok(());
        }
        // A worker may have used the file since it was listed.
        let Some(entry) = self.backend.head(&entry.name)? else { return Ok(()) };
        if is_recent(&entry) {
            report.spared += 1;
            return Ok(());
        }
        if delete {
            self.backend.remove(&entry)?;
        }
        report.bytes += entry.len;
        report.garbage.push(GarbageFile { name: entry.name, bytes: entry.len });
        Ok(())
    }

    /// Whether the object that a view links to still exists.
    fn is_view_live(&self, entry: &FileEntry) -> Result<bool, StoreError> {
        match layout::viewed_object(&entry.name) {
            Some(object) => Ok(self.backend.head(&object.name())?.is_some()),
            None => Ok(true),
        }
    }

    fn find_reachable(&self, is_recent: impl Fn(&FileEntry) -> bool) -> Result<ReachableSet, StoreError> {
        let mut reachable = ReachableSet::default();
        let mut queue = Vec::new();
        for entry in self.backend.list(layout::REFS)? {
            if let StoreFile::Ref(..) = StoreFile::of(&entry.name) {
                queue.push(self.read_ref(&entry.name)?.result);
            }
        }
        for entry in self.backend.list(layout::RESULTS)? {
            if let (StoreFile::Result(key), true) = (StoreFile::of(&entry.name), is_recent(&entry)) {
                queue.push(key);
            }
        }
        while let Some(key) = queue.pop() {
            if !reachable.actions.insert(key) {
                continue;
            }
            let Some(result) = self.result(key)? else { return Err(StoreError::Missing { name: layout::result(key) }) };
            reachable.objects.extend(result.outputs.iter().map(|o| o.object));
            reachable.objects.extend(self.action(key)?.inputs.iter().map(|i| i.object));
            queue.extend(result.upstream);
        }
        Ok(reachable)
    }
}

/// Whether a file was used within the grace period. A time in the future counts as recent.
fn is_recent(entry: &FileEntry, now: SystemTime, grace: Duration) -> bool {
    now.duration_since(entry.modified).unwrap_or_default() < grace
}

fn is_read_only(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
}

/// Files that a collection keeps.
#[derive(Default)]
struct ReachableSet {
    objects: BTreeSet<ObjectId>,
    actions: BTreeSet<ActionKey>,
}
