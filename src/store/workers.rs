//! Workers' notes: what each process that works on the store is doing.
//!
//! A worker rewrites its note every few seconds, which is also its sign of life. The notes are for
//! people (`visplay status`, `visplay why`) and for other workers, which see by them whether a
//! process whose lease is alive makes progress. No result depends on them.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::backend::PublishMode;
use super::error::StoreError;
use super::key::ActionKey;
use super::layout::{self, StoreFile};
use super::process::{Owner, Process};
use super::{Store, checksum};
use crate::batch_job::BatchJob;

/// The work that a process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerRole {
    /// All work, training included.
    #[default]
    Any,
    /// Work with models that do not change within a round. A judge waits for everything else.
    Judge,
}

/// The activity of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// It looks for work, or loads a model.
    Starting,
    /// It computes a shard.
    Running,
    /// It waits for a shard that another process computes.
    Waiting,
    /// It finishes its shard and takes no more.
    Draining,
}

/// The shard that a process computes or waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardNote {
    /// Key of its action.
    pub action: ActionKey,
    /// When the process began it, or began to wait, in milliseconds since 1970.
    pub since_ms: u64,
    /// The process that computes it, if this one waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<Process>,
}

/// A worker's note.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerNote {
    /// The process.
    pub process: Process,
    /// The work that it takes.
    pub role: WorkerRole,
    /// Its command, such as `evolve-round`.
    pub command: String,
    /// Version of the program.
    pub program: String,
    /// The evolution that it works on; empty before it has found one.
    pub evolution: String,
    /// The round that it works on; 0 before it has found one.
    pub round: u32,
    /// The job of a batch system that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<BatchJob>,
    /// The device that it computes on.
    pub device: String,
    /// Its activity.
    pub state: WorkerState,
    /// The part of the round, such as `Questioner, step 7 of 20`.
    pub part: String,
    /// The stage, such as `sampling answers`.
    pub phase: String,
    /// Units of the stage that are done, by whichever process, as far as this one has seen.
    pub phase_done: u64,
    /// All units of the stage.
    pub phase_total: u64,
    /// Shards of the stage that have a result, as far as this process has seen.
    pub phase_shards_done: u64,
    /// All shards of the stage.
    pub phase_shards: u64,
    /// Time that a shard of the stage typically takes, in milliseconds, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typical_ms: Option<u64>,
    /// The shard in hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardNote>,
    /// Number of shards that this process has finished.
    pub shards_done: u64,
    /// Units of work that this process has done since it started. A number that stands still while
    /// a shard is in hand means that the process hangs.
    pub units: u64,
    /// Tokens that this process has sampled since it started.
    pub tokens: u64,
    /// Tokens sampled in a second, over the last minute.
    pub tokens_per_second: f64,
    /// Units of work done in a second, over the last minute.
    pub units_per_second: f64,
    /// When the process started, in milliseconds since 1970.
    pub began_ms: u64,
    /// When the note was written, in milliseconds since 1970.
    pub written_ms: u64,
}

impl WorkerNote {
    /// Returns the note of a process of this program that has done nothing yet.
    pub fn new(process: Process, role: WorkerRole, command: &str) -> Self {
        Self {
            process,
            role,
            command: command.to_owned(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            evolution: String::new(),
            round: 0,
            job: None,
            device: String::new(),
            state: WorkerState::Starting,
            part: String::new(),
            phase: String::new(),
            phase_done: 0,
            phase_total: 0,
            phase_shards_done: 0,
            phase_shards: 0,
            typical_ms: None,
            shard: None,
            shards_done: 0,
            units: 0,
            tokens: 0,
            tokens_per_second: 0.0,
            units_per_second: 0.0,
            began_ms: 0,
            written_ms: 0,
        }
    }

    /// Returns the worker's name, by which `visplay drain` knows it: host and process id.
    pub fn name(&self) -> String {
        format!("{}-{}", self.process.host, self.process.pid)
    }
}

/// A note together with the time since it was written.
#[derive(Debug, Clone)]
pub struct WorkerSign {
    /// The note.
    pub note: WorkerNote,
    /// Time since the last sign of life, by the clock of the store's file system.
    pub age: Duration,
    /// Whether its process is known to have ended, or has given no sign for a minute and a half.
    pub is_lost: bool,
}

/// Time without a sign of life after which a worker counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(90);

/// A note with the scope of its process, as stored.
#[derive(Serialize, Deserialize)]
struct StoredNote {
    owner: Owner,
    note: WorkerNote,
}

impl Store {
    /// Writes the note of this process.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn write_worker_note(&self, note: &WorkerNote) -> Result<(), StoreError> {
        let stored = StoredNote { owner: Owner::current(), note: note.clone() };
        self.put_volatile(&note_name(&note.process), &checksum::with_checksum(&stored)?, PublishMode::Replace)?;
        Ok(())
    }

    /// Removes the note of this process and requests to it.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn remove_worker_note(&self) -> Result<(), StoreError> {
        self.remove_note_of(&Process::current())
    }

    /// Removes the note of a process that has ended, and requests to it.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn remove_note_of(&self, process: &Process) -> Result<(), StoreError> {
        for name in [note_name(process), drain_name(process)] {
            if let Some(entry) = self.backend.head(&name)? {
                self.backend.remove(&entry)?;
            }
        }
        Ok(())
    }

    /// Reads the note of a process; `None` if it has none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn worker_note(&self, process: &Process) -> Result<Option<WorkerNote>, StoreError> {
        let name = note_name(process);
        let Some(bytes) = self.backend.read(&name)? else { return Ok(None) };
        Ok(checksum::verify_checksum::<StoredNote>(&name, &bytes).ok().map(|stored| stored.note))
    }

    /// Reads the notes of all workers, sorted by file name. Notes that are damaged are left out:
    /// their workers write them again.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn workers(&self) -> Result<Vec<WorkerSign>, StoreError> {
        let entries = self.backend.list(layout::WORKERS)?;
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        // A store that cannot be written to has no newer time than this machine's.
        let now = self.backend.now().unwrap_or_else(|_| SystemTime::now());
        let mut signs = Vec::new();
        for entry in entries.iter().filter(|e| e.name.ends_with(".json") && StoreFile::of(&e.name) == StoreFile::Worker)
        {
            let Some(bytes) = self.backend.read(&entry.name)? else { continue };
            let Ok(StoredNote { owner, note }) = checksum::verify_checksum(&entry.name, &bytes) else { continue };
            let age = now.duration_since(entry.modified).unwrap_or_default();
            signs.push(WorkerSign { note, age, is_lost: owner.is_surely_dead() || age > LOST_AFTER });
        }
        Ok(signs)
    }

    /// Returns the living workers of an evolution other than this process.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn other_workers(&self, evolution: &str) -> Result<Vec<WorkerNote>, StoreError> {
        let me = Process::current();
        let signs = self.workers()?.into_iter().filter(|sign| !sign.is_lost);
        Ok(signs.map(|sign| sign.note).filter(|note| note.evolution == evolution && note.process != me).collect())
    }

    /// Returns the number of other living workers that sample with the weights of models in
    /// training.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn trainers(&self) -> Result<usize, StoreError> {
        let me = Process::current();
        let is_other =
            |sign: &&WorkerSign| !sign.is_lost && sign.note.role == WorkerRole::Any && sign.note.process != me;
        Ok(self.workers()?.iter().filter(is_other).count())
    }

    /// Whether a process has left a note and is not known to have ended.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn is_at_work(&self, process: &Process) -> Result<bool, StoreError> {
        let name = note_name(process);
        let Some(bytes) = self.backend.read(&name)? else { return Ok(false) };
        let stored = checksum::verify_checksum::<StoredNote>(&name, &bytes);
        Ok(stored.is_ok_and(|stored| !stored.owner.is_surely_dead() && stored.note.state != WorkerState::Draining))
    }

    /// Asks a worker to finish its shard and take no more; with `now`, to drop it.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn request_drain(&self, process: &Process, now: bool) -> Result<(), StoreError> {
        let text: &[u8] = if now { b"now\n" } else { b"after the shard in hand\n" };
        self.put_volatile(&drain_name(process), text, PublishMode::Replace).map(|_| ())
    }

    /// Returns the request to drain this process: `Some(true)` if it is to drop its shard.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn drain_requested(&self) -> Result<Option<bool>, StoreError> {
        let request = self.backend.read(&drain_name(&Process::current()))?;
        Ok(request.map(|text| text.starts_with(b"now")))
    }
}

fn note_name(process: &Process) -> String {
    format!("{}/{}.json", layout::WORKERS, file_stem(process))
}

fn drain_name(process: &Process) -> String {
    format!("{}/{}.drain", layout::WORKERS, file_stem(process))
}

fn file_stem(Process { host, pid, started }: &Process) -> String {
    format!("{host}-{pid}-{started}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(process: Process) -> WorkerNote {
        WorkerNote { evolution: "e".into(), round: 1, units: 7, ..WorkerNote::new(process, WorkerRole::Any, "work") }
    }

    #[test]
    fn a_note_is_found_until_it_is_removed_and_verify_knows_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(folder.path()).expect("a store");
        assert!(store.workers().expect("no error").is_empty());
        let me = note(Process::current());
        store.write_worker_note(&me).expect("a note");
        store.request_drain(&me.process, false).expect("a request");
        let [sign] = &store.workers().expect("no error")[..] else { panic!("one worker") };
        assert_eq!((&sign.note, sign.is_lost), (&me, false));
        assert_eq!(store.drain_requested().expect("no error"), Some(false));
        assert!(store.other_workers("e").expect("no error").is_empty());
        let report = store.verify(crate::store::VerifyDepth::Full, false).expect("no error");
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        store.remove_worker_note().expect("no error");
        assert!(store.workers().expect("no error").is_empty());
        assert_eq!(store.drain_requested().expect("no error"), None);
    }

    #[test]
    fn a_worker_that_has_ended_counts_as_lost() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(folder.path()).expect("a store");
        let process = Process { pid: (1 << 22) + 1, ..Process::current() };
        let mut owner = Owner::current();
        owner.process.clone_from(&process);
        let stored = StoredNote { owner, note: note(process.clone()) };
        let bytes = checksum::with_checksum(&stored).expect("a note");
        store.put_volatile(&note_name(&process), &bytes, PublishMode::Replace).expect("a file");
        assert!(store.workers().expect("no error")[0].is_lost);
        assert!(store.other_workers("e").expect("no error").is_empty());
    }
}
