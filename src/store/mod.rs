//! A content-addressed store of stage outputs in a folder that several machines may share.
//!
//! Running a stage on one shard is an *action*. Its *key* is a digest of everything that determines
//! the outcome. The output files are *objects*, named by the digest of their bytes. The *result* of
//! an action lists its objects, and a *ref* such as `main/round-0003/reasoner` names a result. An
//! action with a result is never run again, which is how an interrupted run resumes.
//!
//! ```text
//! FORMAT                          format number of the store; a newer one is refused
//! objects/ab/<blake3>.<ending>    immutable bytes
//! actions/ab/<key>.json           an action: the canonical JSON whose digest is the key
//! results/ab/<key>.json           the result of an action; create-only, the first one wins
//! refs/<evolution>/<name>/N.json  version N of a name for a result; create-only
//! claims/<key>.lease              leases that keep two workers from running one action
//! views/                          hard links to objects (or copies), for people to browse
//! workers/<process>.json          what each process is doing; also requests to it
//! jobs/<evolution>/round-N/       rounds under way: pipeline files, records of submissions
//! logs/                           logs of workers
//! steps/                          weights after single training steps; may be lost at any time
//! cache/                          entries that save work and may be lost at any time
//! quarantine/                     files that `verify` moved out of the way
//! dropped/ab/<object>.json        notes on objects that were removed and can be recomputed
//! retention/<evolution>.json      settings of what an evolution's finished rounds keep
//! tmp/                            files being written
//! ```
//!
//! Publishing is atomic: a file appears complete or not at all, objects before the result that
//! lists them, results before the ref that names them. Code outside this module never touches these
//! files.

mod action;
mod backend;
mod cache;
mod checksum;
mod claim;
mod clock;
mod create_only;
mod error;
mod format;
mod garbage;
mod jobs;
mod key;
mod layout;
mod node_cache;
mod overlay;
mod posix;
mod process;
mod refs;
mod result;
mod retention;
mod step_weights;
mod verify;
mod workers;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rayon::prelude::*;

use crate::ids::Digest;
use crate::network_files::unless_stale;

pub use self::action::{Action, ActionDifference, Input};
pub use self::backend::{FileEntry, StagedFile};
pub use self::claim::{Claim, ClaimOutcome, LEASE_TIMEOUT, ShardState, second_copy};
pub use self::clock::{format_utc, now_ms, to_ms};
pub use self::error::StoreError;
pub use self::format::StoreFormat;
pub use self::garbage::{GarbageFile, GarbageOptions, GarbageReport};
pub use self::key::ActionKey;
pub use self::layout::{ObjectId, ObjectKind, StoreFile};
pub use self::overlay::scratch_folder;
pub use self::posix::sync_folder;
pub use self::process::{Process, host_name};
pub use self::refs::{Ref, RefUpdate, is_name};
pub use self::result::{Counts, Output, RunInfo, StageResult};
pub use self::retention::DropNote;
pub use self::step_weights::StepWeights;
pub use self::verify::{StoreProblem, StoreProblemKind, VerifyDepth, VerifyReport};
pub use self::workers::{ShardNote, WorkerNote, WorkerRole, WorkerSign, WorkerState};

use self::backend::{Backend, Durability, PublishMode, PublishOutcome};
use self::claim::HeldLeases;
use self::node_cache::NodeCache;
use self::overlay::Overlay;
use self::posix::PosixFolder;

/// An open store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    backend: Arc<dyn Backend>,
    held: Arc<HeldLeases>,
    /// Redirects writes to a scratch folder.
    overlay: Option<Arc<Overlay>>,
    /// Copies of objects on this node's own disk.
    node_cache: Option<Arc<NodeCache>>,
}

impl Store {
    /// Opens an existing store.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] without a `FORMAT` file, [`StoreError::NewerFormat`] for one that
    /// is too new.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self::unchecked(root);
        let text =
            store.backend.read(layout::FORMAT)?.ok_or_else(|| StoreError::NotAStore { path: root.to_owned() })?;
        let format = StoreFormat::parse(&text)
            .ok_or_else(|| StoreError::damaged(layout::FORMAT, "it does not say `visplay store N`"))?;
        format.check_readable(root)?;
        Ok(store)
    }

    /// Opens a store, creating it if the folder is empty or missing.
    ///
    /// # Errors
    /// Those of [`open`](Self::open). A folder with other contents is never turned into a store.
    pub fn open_or_create(root: &Path) -> Result<Self, StoreError> {
        match unless_stale(|| std::fs::read_dir(root)) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(root).map_err(StoreError::io("create the store", root))?;
            }
            Err(e) => return Err(StoreError::io("open the store", root)(e)),
        }
        let has_format = unless_stale(|| std::fs::metadata(root.join(layout::FORMAT))).is_ok();
        if !has_format && Self::is_empty_or_half_created(root) {
            Self::unchecked(root).write_format()?;
        }
        PosixFolder::new(root).remove_stale_temporaries();
        Self::open(root)
    }

    /// Whether the folder is empty, or creating the store was interrupted or is in progress in
    /// another process: then there is a `tmp` folder and nothing else.
    fn is_empty_or_half_created(root: &Path) -> bool {
        std::fs::read_dir(root).is_ok_and(|entries| {
            entries.flatten().all(|e| e.file_name() == layout::TMP || e.file_name() == layout::FORMAT)
        })
    }

    fn write_format(&self) -> Result<(), StoreError> {
        let text = StoreFormat::CURRENT.file_text();
        self.put_file(layout::FORMAT, text.as_bytes(), PublishMode::CreateOnly).map(|_| ())
    }

    /// Reads a file that another one refers to.
    fn read_existing(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        self.backend.read(name)?.ok_or_else(|| StoreError::Missing { name: name.to_owned() })
    }

    fn unchecked(root: &Path) -> Self {
        let backend: Arc<dyn Backend> = Arc::new(PosixFolder::new(root));
        let held = HeldLeases::new(Arc::clone(&backend));
        Self { root: root.to_owned(), held, backend, overlay: None, node_cache: None }
    }

    /// Returns the store with a cache of objects in a folder on this node's own disk, which holds
    /// at most `capacity` bytes.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn with_node_cache(&self, folder: &Path, capacity: u64) -> Result<Self, StoreError> {
        Ok(Self { node_cache: Some(Arc::new(NodeCache::open(folder, capacity)?)), ..self.clone() })
    }

    /// Returns the path of the store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens a temporary file for an object whose digest is not known yet.
    pub fn stage(&self) -> Result<StagedFile, StoreError> {
        self.backend.stage()
    }

    /// Publishes a staged file as an object.
    pub fn publish_object(&self, staged: StagedFile, kind: ObjectKind) -> Result<(ObjectId, u64), StoreError> {
        let (digest, bytes) = staged.digest();
        let object = ObjectId { digest, kind };
        // The name is a digest of the bytes, so replacing repairs a damaged file and does not
        // change an intact one.
        self.backend.publish(staged, &object.name(), PublishMode::Replace, Durability::Flushed)?;
        Ok((object, bytes))
    }

    /// Publishes bytes as an object unless the store has an object of that name and size, which
    /// spares workers that all list the same rows from writing them again.
    pub fn ensure_object(&self, bytes: &[u8], kind: ObjectKind) -> Result<ObjectId, StoreError> {
        let object = ObjectId { digest: Digest::of(bytes), kind };
        self.backend.touch(&object.name())?;
        match self.backend.head(&object.name())? {
            Some(entry) if entry.is_file && entry.len == bytes.len() as u64 => Ok(object),
            _ => self.put_object(bytes, kind),
        }
    }

    /// Publishes bytes as an object.
    pub fn put_object(&self, bytes: &[u8], kind: ObjectKind) -> Result<ObjectId, StoreError> {
        let mut staged = self.stage()?;
        staged.write_all(bytes).map_err(StoreError::io("write", &self.root))?;
        Ok(self.publish_object(staged, kind)?.0)
    }

    /// Reads an object and verifies its digest.
    ///
    /// # Errors
    /// [`StoreError::Missing`] and [`StoreError::Damaged`] name the file.
    pub fn read_object(&self, object: ObjectId) -> Result<Vec<u8>, StoreError> {
        let name = object.name();
        if let Some(cache) = &self.node_cache
            && let Some(entry) = self.backend.head(&name)?
            && let Some(path) = cache.path_of(object, entry.len, &entry.path)
        {
            match std::fs::read(path) {
                Ok(bytes) if Digest::of(&bytes) == object.digest => return Ok(bytes),
                _ => cache.remove(object),
            }
        }
        let bytes = self.read_existing(&name)?;
        if Digest::of(&bytes) != object.digest {
            return Err(StoreError::damaged(name, "its bytes do not match the digest in its name"));
        }
        // A damaged copy was removed above.
        if let Some(cache) = &self.node_cache
            && let Some(entry) = self.backend.head(&name)?
        {
            cache.path_of(object, entry.len, &entry.path);
        }
        Ok(bytes)
    }

    /// Returns the path of an output's file, for readers that map it into memory. Its size is
    /// checked, and with [`VerifyDepth::Full`] its digest too.
    ///
    /// # Errors
    /// [`StoreError::Missing`] and [`StoreError::Damaged`] name the file.
    pub fn object_file(&self, output: &Output, depth: VerifyDepth) -> Result<PathBuf, StoreError> {
        let name = output.object.name();
        let entry = self.backend.head(&name)?.ok_or_else(|| StoreError::Missing { name: name.clone() })?;
        if !entry.is_file || entry.len != output.bytes {
            return Err(StoreError::damaged(name, "it does not have the size that its result records"));
        }
        let is_intact = |path: &Path| -> Result<bool, StoreError> {
            let mut hasher = blake3::Hasher::new();
            let read = unless_stale(|| std::fs::File::open(path)).and_then(|file| hasher.update_reader(file).map(drop));
            read.map_err(StoreError::io("read", path))?;
            Ok(Digest::from(hasher.finalize()) == output.object.digest)
        };
        if let Some(cache) = &self.node_cache
            && let Some(path) = cache.path_of(output.object, entry.len, &entry.path)
        {
            // Another process may have removed it from the cache.
            if depth == VerifyDepth::Quick || is_intact(&path).unwrap_or(false) {
                return Ok(path);
            }
            cache.remove(output.object);
        }
        if depth == VerifyDepth::Full && !is_intact(&entry.path)? {
            return Err(StoreError::damaged(name, "its bytes do not match the digest in its name"));
        }
        Ok(entry.path)
    }

    /// Stores an action before it runs, and returns its key.
    pub fn put_action(&self, action: &Action) -> Result<ActionKey, StoreError> {
        let preimage = action.preimage()?;
        let key = ActionKey::of(&preimage);
        if let Some(overlay) = &self.overlay {
            overlay.admit(key, action)?;
        }
        let name = layout::action(key);
        if self.backend.read(&name)?.as_deref() == Some(&preimage) {
            self.backend.touch(&name)?;
        } else {
            self.put_file(&name, &preimage, PublishMode::Replace)?;
        }
        Ok(key)
    }

    /// Reads the action with this key.
    pub fn action(&self, key: ActionKey) -> Result<Action, StoreError> {
        let name = layout::action(key);
        let bytes = self.read_existing(&name)?;
        if ActionKey::of(&bytes) != key {
            return Err(StoreError::damaged(name, "its bytes do not match the key in its name"));
        }
        serde_json::from_slice(&bytes).map_err(|e| StoreError::damaged(name, format!("it is not an action: {e}")))
    }

    /// Reads the result of an action, if there is one. Its outputs may be missing.
    pub fn result(&self, key: ActionKey) -> Result<Option<StageResult>, StoreError> {
        let name = layout::result(key);
        let Some(bytes) = self.backend.read(&name)? else { return Ok(None) };
        let result: StageResult = checksum::verify_checksum(&name, &bytes)?;
        if result.action != key {
            return Err(StoreError::damaged(name, format!("it is the result of {}", result.action)));
        }
        Ok(Some(result))
    }

    /// Reads the result of an action if all its outputs exist with the recorded size, or were
    /// dropped because they can be recomputed. A damaged result counts as missing, and
    /// [`publish_result`](Self::publish_result) replaces it.
    ///
    /// Touches the result, its action and its outputs, so that `gc` keeps them for a grace period.
    pub fn result_with_outputs(&self, key: ActionKey) -> Result<Option<StageResult>, StoreError> {
        let result = match self.result(key) {
            Ok(Some(result)) => result,
            Ok(None) | Err(StoreError::Damaged { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        // Touch first, check second: a file that exists after the touch is safe from `gc`.
        self.backend.touch(&layout::result(key))?;
        self.backend.touch(&layout::action(key))?;
        for output in &result.outputs {
            self.backend.touch(&output.object.name())?;
            if !self.has_output(output)? {
                return Ok(None);
            }
        }
        Ok(Some(result))
    }

    /// Reads the result of an action if nothing of it is missing: its outputs, the action itself
    /// and the action's inputs.
    pub fn result_with_inputs_and_outputs(&self, key: ActionKey) -> Result<Option<StageResult>, StoreError> {
        let Some(result) = self.result_with_outputs(key)? else { return Ok(None) };
        let action = match self.action(key) {
            Ok(action) => action,
            Err(StoreError::Missing { .. } | StoreError::Damaged { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        for input in &action.inputs {
            self.backend.touch(&input.object.name())?;
            if self.backend.head(&input.object.name())?.is_none() && !self.has_drop_note(input.object)? {
                return Ok(None);
            }
        }
        Ok(Some(result))
    }

    /// Whether an output exists with its recorded size, or was dropped.
    fn has_output(&self, output: &Output) -> Result<bool, StoreError> {
        match self.backend.head(&output.object.name())? {
            Some(entry) => Ok(entry.is_file && entry.len == output.bytes),
            None => self.has_drop_note(output.object),
        }
    }

    /// Publishes the result of an action. The first one wins: if another worker published earlier,
    /// its result is returned. An earlier result that is damaged or lacks outputs is moved to the
    /// quarantine.
    pub fn publish_result(&self, result: &StageResult) -> Result<StageResult, StoreError> {
        let name = layout::result(result.action);
        let bytes = checksum::with_checksum(result)?;
        loop {
            if self.put_file(&name, &bytes, PublishMode::CreateOnly)? == PublishOutcome::Published {
                return Ok(result.clone());
            }
            if let Some(first) = self.result_with_outputs(result.action)? {
                return Ok(first);
            }
            if let Some(entry) = self.backend.head(&name)? {
                self.quarantine(&entry)?;
            }
        }
    }

    /// Fills the folder `views/<view>` with hard links to these objects (or copies), in order, as
    /// `NNNNN-<digest>.<extension>`, and removes all other files from it.
    pub fn write_view(&self, view: &str, objects: &[ObjectId]) -> Result<(), StoreError> {
        let folder = format!("{}/{view}", layout::VIEWS);
        let names: Vec<String> =
            objects.iter().enumerate().map(|(i, object)| format!("{folder}/{i:05}-{object}")).collect();
        let existing = self.backend.list(&folder)?;
        let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        for entry in existing.iter().filter(|e| !wanted.contains(e.name.as_str())) {
            // Another process may be writing the same view.
            if StoreFile::of(&entry.name) != StoreFile::Temporary {
                self.backend.remove(entry)?;
            }
        }
        let existing: BTreeSet<&str> = existing.iter().map(|e| e.name.as_str()).collect();
        for (object, name) in objects.iter().zip(&names).filter(|(_, name)| !existing.contains(name.as_str())) {
            self.backend.link(&object.name(), name)?;
        }
        Ok(())
    }

    /// Reads all intact results, sorted by key.
    pub fn results(&self) -> Result<Vec<StageResult>, StoreError> {
        let files = self.backend.list(layout::RESULTS)?;
        let keys: Vec<ActionKey> = (files.iter())
            .filter_map(|e| match StoreFile::of(&e.name) {
                StoreFile::Result(key) => Some(key),
                _ => None,
            })
            .collect();
        Ok(keys.into_par_iter().filter_map(|key| self.result(key).ok().flatten()).collect())
    }

    /// Returns the time by the clock of the store's file system, which gives files their times.
    ///
    /// # Errors
    /// The store is not writable: the time is that of a new temporary file.
    pub fn file_system_time(&self) -> Result<SystemTime, StoreError> {
        self.backend.now()
    }

    /// Lists all files of the store.
    pub fn files(&self) -> Result<Vec<FileEntry>, StoreError> {
        self.backend.list("")
    }

    /// Finds the object, action or result whose hexadecimal digest begins with `prefix`.
    ///
    /// # Errors
    /// [`StoreError::Lookup`] if nothing matches, or more than one thing.
    pub fn find(&self, prefix: &str) -> Result<StoreFile, StoreError> {
        if prefix.len() < 4 || !prefix.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)) {
            return Err(StoreError::Lookup(format!(
                "`{prefix}` is neither a ref nor a digest (4 to 64 digits 0-9 a-f)"
            )));
        }
        let mut names = Vec::new();
        for folder in [layout::OBJECTS, layout::DROPPED, layout::RESULTS, layout::ACTIONS] {
            for entry in self.backend.list(&format!("{folder}/{}", &prefix[..2]))? {
                let (digest, name) = match StoreFile::of(&entry.name) {
                    StoreFile::Object(object) => (object.digest, entry.name),
                    StoreFile::Dropped(object) => (object.digest, object.name()),
                    StoreFile::Action(key) | StoreFile::Result(key) => (key.0, entry.name),
                    _ => continue,
                };
                // An object that was recomputed has a note as well.
                if digest.hex().starts_with(prefix) && !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        // An action and its result share a key, and the result identifies both.
        if let [result, action] = names.as_slice()
            && let (StoreFile::Result(a), StoreFile::Action(b)) = (StoreFile::of(result), StoreFile::of(action))
            && a == b
        {
            return Ok(StoreFile::Result(a));
        }
        match names.as_slice() {
            [] => Err(StoreError::Lookup(format!("nothing in the store begins with `{prefix}`"))),
            [one] => Ok(StoreFile::of(one)),
            many => Err(StoreError::Lookup(format!(
                "`{prefix}` is ambiguous: {} files begin with it, such as {} and {}",
                many.len(),
                many[0],
                many[1]
            ))),
        }
    }

    fn put_file(&self, name: &str, bytes: &[u8], mode: PublishMode) -> Result<PublishOutcome, StoreError> {
        let mut staged = self.backend.stage()?;
        staged.write_all(bytes).map_err(StoreError::io("write", self.root.join(name)))?;
        self.backend.publish(staged, name, mode, Durability::Flushed)
    }

    /// Writes a file that is worthless after a power cut.
    fn put_volatile(&self, name: &str, bytes: &[u8], mode: PublishMode) -> Result<PublishOutcome, StoreError> {
        let mut staged = self.backend.stage()?;
        staged.write_all(bytes).map_err(StoreError::io("write", self.root.join(name)))?;
        self.backend.publish(staged, name, mode, Durability::Volatile)
    }

    /// Moves a file to the quarantine and returns its new name.
    fn quarantine(&self, entry: &FileEntry) -> Result<String, StoreError> {
        let name = format!("{}/{}-{}/{}", layout::QUARANTINE, now_ms(), std::process::id(), entry.name);
        self.backend.quarantine(entry, &name)?;
        Ok(name)
    }
}
