//! Claims: leases that keep two workers from running the same action.
//!
//! They only save work. Correctness never depends on them: results are create-only, and two workers
//! that run one action produce the same bytes.
//!
//! A holder touches its lease file every few seconds (the heartbeat). Another worker takes the
//! lease over if the holder ran in the same container of the same host and is dead, or if the lease
//! was not touched while that worker watched it for [`LEASE_TIMEOUT`]. Only the watcher's monotonic
//! clock counts, so clock differences between hosts are harmless.
//!
//! A lease that is taken over records the holders that were lost. A shard that was lost on two
//! hosts is probably what kills its workers (by the memory that it needs, for instance), so it is
//! set aside instead of being tried on one host after another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::backend::{Backend, FileEntry, PublishMode, PublishOutcome};
use super::error::StoreError;
use super::key::ActionKey;
use super::layout;
use super::process::{Owner, Process};
use super::{Store, checksum};

/// Time without a heartbeat after which another worker may take a lease over.
pub const LEASE_TIMEOUT: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Content of a lease file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lease {
    pub(super) action: ActionKey,
    pub(super) holder: Owner,
    /// Earlier holders that were lost, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) lost: Vec<Process>,
}

/// The right to run an action; dropping it removes the lease.
#[derive(Debug)]
pub struct Claim {
    file: String,
    held: Arc<HeldLeases>,
}

/// Outcome of requesting a claim.
#[derive(Debug)]
pub enum ClaimOutcome {
    /// This process holds the claim.
    Acquired(Claim),
    /// A live worker holds it.
    HeldBy(Process),
    /// Workers were lost with it on two hosts: these, oldest first.
    SetAside(Vec<Process>),
}

/// State of an action, as found without writing anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardState {
    /// It has a result.
    Done,
    /// A live worker holds its lease.
    Held(Process),
    /// Nobody holds it, or a worker that was lost.
    Free,
}

/// A lease that this process watches.
#[derive(Debug)]
struct WatchedLease {
    modified: SystemTime,
    /// When this process first saw that time.
    seen: Instant,
    /// Its content; `None` if it is not valid.
    lease: Option<Lease>,
}

/// Leases that this process holds or watches.
#[derive(Debug)]
pub(super) struct HeldLeases {
    backend: Arc<dyn Backend>,
    files: Mutex<BTreeSet<String>>,
    watched: Mutex<BTreeMap<String, WatchedLease>>,
    heartbeat: std::sync::Once,
}

impl HeldLeases {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Arc<Self> {
        Arc::new(Self {
            backend,
            files: Mutex::default(),
            watched: Mutex::default(),
            heartbeat: std::sync::Once::new(),
        })
    }

    fn files(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the live holder of a lease. `None`: its holder is dead, it was not touched while
    /// this process watched it for [`LEASE_TIMEOUT`], or it is not valid.
    fn live_holder(&self, file: &str, entry: &FileEntry) -> Result<Option<Process>, StoreError> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unchanged = |lease: &WatchedLease| lease.modified == entry.modified;
        if !watched.get(file).is_some_and(is_unchanged) {
            let Some(bytes) = self.backend.read(file)? else { return Ok(None) };
            let lease = checksum::verify_checksum::<Lease>(file, &bytes).ok();
            watched.insert(file.to_owned(), WatchedLease { modified: entry.modified, seen: Instant::now(), lease });
        }
        let Some(watch) = watched.get(file) else { return Ok(None) };
        let is_live = |holder: &&Owner| !holder.is_surely_dead() && watch.seen.elapsed() <= LEASE_TIMEOUT;
        let live = watch.lease.as_ref().map(|lease| &lease.holder).filter(is_live);
        Ok(live.map(|holder| holder.process.clone()))
    }

    /// Returns the content of a lease that this process watches.
    fn watched_lease(&self, file: &str) -> Option<Lease> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).get(file)?.lease.clone()
    }

    /// Whether this process still holds a lease: another one may have taken it over.
    fn is_own(&self, file: &str) -> bool {
        let bytes = self.backend.read(file).ok().flatten();
        let lease = bytes.and_then(|bytes| checksum::verify_checksum::<Lease>(file, &bytes).ok());
        lease.is_some_and(|lease| lease.holder.process == Process::current())
    }

    /// Starts the thread that touches the held leases until the store is closed.
    fn start_heartbeat(self: &Arc<Self>) {
        let weak: Weak<Self> = Arc::downgrade(self);
        self.heartbeat.call_once(|| {
            let beat = move || {
                loop {
                    std::thread::sleep(HEARTBEAT);
                    let Some(held) = weak.upgrade() else { return };
                    let files: Vec<String> = held.files().iter().cloned().collect();
                    for file in files {
                        // The heartbeat of a process that hung must not keep the lease of the
                        // next one alive. If touching fails, another worker may take the lease
                        // over. That costs work, not correctness.
                        if held.is_own(&file) {
                            let _ = held.backend.touch(&file);
                        }
                    }
                }
            };
            let _ = std::thread::Builder::new().name("heartbeat".into()).spawn(beat);
        });
    }
}

impl HeldLeases {
    /// Removes the lease of a file, unless another worker has taken it over.
    fn give_back(&self, file: &str) {
        self.files().remove(file);
        if self.is_own(file)
            && let Ok(Some(entry)) = self.backend.head(file)
        {
            let _ = self.backend.remove(&entry);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.held.give_back(&self.file);
    }
}

impl Store {
    /// Looks whether an action is done or in work, without writing anything.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn shard_state(&self, action: ActionKey) -> Result<ShardState, StoreError> {
        let (result, file) = (layout::result(action), layout::claim(action));
        self.backend.refresh(result.rsplit_once('/').map_or("", |(folder, _)| folder));
        if self.backend.head(&result)?.is_some() {
            return Ok(ShardState::Done);
        }
        let Some(entry) = self.backend.head(&file)? else { return Ok(ShardState::Free) };
        Ok(self.held.live_holder(&file, &entry)?.map_or(ShardState::Free, ShardState::Held))
    }

    /// Requests the right to run an action. `retry` takes a shard that was set aside.
    ///
    /// # Errors
    /// The store cannot be read or written to.
    pub fn claim(&self, action: ActionKey, retry: bool) -> Result<ClaimOutcome, StoreError> {
        let file = layout::claim(action);
        let mut lost = Vec::new();
        // The second attempt follows the removal of a stale lease; the first worker to create the
        // new lease gets the claim.
        for _ in 0..2 {
            let lease = Lease { action, holder: Owner::current(), lost: lost.clone() };
            let bytes = checksum::with_checksum(&lease)?;
            if self.put_volatile(&file, &bytes, PublishMode::CreateOnly)? == PublishOutcome::Published {
                self.held.files().insert(file.clone());
                self.held.start_heartbeat();
                return Ok(ClaimOutcome::Acquired(Claim { file, held: Arc::clone(&self.held) }));
            }
            let Some(entry) = self.backend.head(&file)? else { continue };
            if let Some(holder) = self.held.live_holder(&file, &entry)? {
                return Ok(ClaimOutcome::HeldBy(holder));
            }
            let judged = self.held.watched_lease(&file);
            // Of several workers that take the lease over at once, one is the first.
            let Some(bytes) = self.backend.read(&file)? else { continue };
            let now = checksum::verify_checksum::<Lease>(&file, &bytes).ok();
            let holder = |lease: &Option<Lease>| lease.as_ref().map(|lease| lease.holder.process.clone());
            if let (Some(new), true) = (holder(&now), holder(&now) != holder(&judged)) {
                return Ok(ClaimOutcome::HeldBy(new));
            }
            if let Some(stale) = judged.filter(|_| !retry) {
                lost = stale.lost;
                lost.push(stale.holder.process);
                let hosts: BTreeSet<&str> = lost.iter().map(|process| process.host.as_str()).collect();
                if hosts.len() > 1 {
                    return Ok(ClaimOutcome::SetAside(lost));
                }
            }
            self.backend.remove(&entry)?;
        }
        Ok(ClaimOutcome::HeldBy(Process::current()))
    }

    /// Removes all leases that this handle of the store and its copies hold, before the process
    /// ends in the middle of its work.
    pub fn give_back_leases(&self) {
        let files: Vec<String> = self.held.files().iter().cloned().collect();
        files.iter().for_each(|file| self.held.give_back(file));
    }

    /// Removes the lease that `holder` has on an action: it is alive but makes no progress. Another
    /// worker can claim the action then. If the holder continues after all, its result is the same.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn revoke_lease(&self, action: ActionKey, holder: &Process) -> Result<(), StoreError> {
        let file = layout::claim(action);
        let Some(bytes) = self.backend.read(&file)? else { return Ok(()) };
        let lease = checksum::verify_checksum::<Lease>(&file, &bytes);
        match self.backend.head(&file)? {
            Some(entry) if lease.is_ok_and(|lease| lease.holder.process == *holder) => self.backend.remove(&entry),
            _ => Ok(()),
        }
    }
}

/// Returns the key under which a second worker claims an action that the first one is slow at.
pub fn second_copy(action: ActionKey) -> ActionKey {
    ActionKey::of_lease("visplay 2026 second copy of a shard", &[action.0.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Digest;

    /// A lease as earlier versions wrote it: its holder has no scope.
    #[derive(Serialize)]
    struct EarlierLease {
        action: ActionKey,
        holder: Process,
    }

    /// Larger than any process id of Linux.
    const ABSENT: u32 = (1 << 22) + 1;

    #[test]
    fn a_lease_of_an_earlier_version_is_judged_by_its_heartbeat() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(folder.path()).expect("a store");
        let action = ActionKey(Digest::of(b"x"));
        let holder = Process { pid: ABSENT, ..Process::current() };
        let lease = checksum::with_checksum(&EarlierLease { action, holder: holder.clone() }).expect("a lease");
        store.put_file(&layout::claim(action), &lease, PublishMode::CreateOnly).expect("a lease file");
        let outcome = store.claim(action, false).expect("no error");
        assert!(matches!(outcome, ClaimOutcome::HeldBy(process) if process == holder));
        let report = store.verify(crate::store::VerifyDepth::Full, false).expect("no error");
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        // A minute without a heartbeat, as this process saw it.
        let long_ago = Instant::now().checked_sub(2 * LEASE_TIMEOUT).expect("an earlier instant");
        store.held.watched.lock().expect("a lock").values_mut().for_each(|lease| lease.seen = long_ago);
        assert!(matches!(store.claim(action, false), Ok(ClaimOutcome::Acquired(_))));
    }

    #[test]
    fn the_lease_of_a_dead_process_of_this_container_is_taken_over_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(folder.path()).expect("a store");
        let action = ActionKey(Digest::of(b"x"));
        let mut holder = Owner::current();
        holder.process.pid = ABSENT;
        let lease = checksum::with_checksum(&Lease { action, holder, lost: Vec::new() }).expect("a lease");
        store.put_file(&layout::claim(action), &lease, PublishMode::CreateOnly).expect("a lease file");
        assert!(matches!(store.claim(action, false), Ok(ClaimOutcome::Acquired(_))));
    }

    /// Writes the lease of a worker of another host that was not seen for a minute.
    fn abandon(store: &Store, action: ActionKey, host: &str, lost: Vec<Process>) {
        let mut holder = Owner::current();
        holder.process.host = host.to_owned();
        let lease = checksum::with_checksum(&Lease { action, holder, lost }).expect("a lease");
        store.put_file(&layout::claim(action), &lease, PublishMode::Replace).expect("a lease file");
        assert!(matches!(store.claim(action, false), Ok(ClaimOutcome::HeldBy(_) | ClaimOutcome::SetAside(_))));
        let long_ago = Instant::now().checked_sub(2 * LEASE_TIMEOUT).expect("an earlier instant");
        store.held.watched.lock().expect("a lock").values_mut().for_each(|lease| lease.seen = long_ago);
    }

    #[test]
    fn a_shard_lost_on_two_hosts_is_set_aside_until_it_is_retried() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(folder.path()).expect("a store");
        let action = ActionKey(Digest::of(b"x"));
        let host = |name: &str| Process { host: name.to_owned(), ..Process::current() };
        // Lost twice on one host: a reboot, say.
        abandon(&store, action, "a", vec![host("a")]);
        let claim = store.claim(action, false).expect("no error");
        assert!(matches!(claim, ClaimOutcome::Acquired(_)), "{claim:?}");
        drop(claim);
        abandon(&store, action, "b", vec![host("a")]);
        match store.claim(action, false).expect("no error") {
            ClaimOutcome::SetAside(lost) => assert_eq!(lost, [host("a"), host("b")]),
            other => panic!("{other:?}"),
        }
        assert_eq!(store.shard_state(action).expect("no error"), ShardState::Free);
        assert!(matches!(store.claim(action, true), Ok(ClaimOutcome::Acquired(_))));
        assert!(matches!(store.claim(action, false), Ok(ClaimOutcome::Acquired(_))), "the lease was given back");
    }

    #[test]
    fn a_holder_whose_lease_was_revoked_leaves_the_next_lease_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(folder.path()).expect("a store");
        let action = ActionKey(Digest::of(b"x"));
        let Ok(ClaimOutcome::Acquired(first)) = store.claim(action, false) else { panic!("the first claim") };
        assert!(matches!(store.shard_state(action), Ok(ShardState::Held(_))));
        store.revoke_lease(action, &Process::current()).expect("no error");
        assert_eq!(store.shard_state(action).expect("no error"), ShardState::Free);
        let mut holder = Owner::current();
        holder.process.host = "elsewhere".into();
        let lease = checksum::with_checksum(&Lease { action, holder, lost: Vec::new() }).expect("a lease");
        store.put_file(&layout::claim(action), &lease, PublishMode::CreateOnly).expect("a lease file");
        drop(first);
        assert!(matches!(store.shard_state(action), Ok(ShardState::Held(process)) if process.host == "elsewhere"));
    }
}
