//! Claims: leases that keep two workers from running the same action.
//!
//! They only save work. Correctness never depends on them: results are create-only, and two workers
//! that run one action produce the same bytes.
//!
//! A holder touches its lease file every few seconds (the heartbeat). Another worker takes the
//! lease over if the holder ran in the same container of the same host and is dead, or if the lease
//! was not touched while that worker watched it for [`LEASE_TIMEOUT`]. Only the watcher's monotonic
//! clock counts, so clock differences between hosts are harmless.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::backend::{Backend, PublishMode, PublishOutcome};
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
}

/// Leases that this process holds or watches.
#[derive(Debug)]
pub(super) struct HeldLeases {
    backend: Arc<dyn Backend>,
    files: Mutex<BTreeSet<String>>,
    /// Last modification time of each watched lease, and when this process first saw it.
    watched: Mutex<BTreeMap<String, (SystemTime, Instant)>>,
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

    fn files(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a lease has been watched for [`LEASE_TIMEOUT`] without being touched.
    fn is_stale(&self, file: &str, modified: SystemTime) -> bool {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = watched.entry(file.to_owned()).or_insert((modified, Instant::now()));
        if seen.0 != modified {
            *seen = (modified, Instant::now());
        }
        seen.1.elapsed() > LEASE_TIMEOUT
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
                        // If touching fails, another worker may take the lease over. That costs
                        // work, not correctness.
                        let _ = held.backend.touch(&file);
                    }
                }
            };
            let _ = std::thread::Builder::new().name("heartbeat".into()).spawn(beat);
        });
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.held.files().remove(&self.file);
        if let Ok(Some(entry)) = self.held.backend.head(&self.file) {
            let _ = self.held.backend.remove(&entry);
        }
    }
}

impl Store {
    /// Requests the right to run an action.
    pub fn claim(&self, action: ActionKey) -> Result<ClaimOutcome, StoreError> {
        let file = layout::claim(action);
        let lease = checksum::with_checksum(&Lease { action, holder: Owner::current() })?;
        // The second attempt follows the removal of a stale lease; the first worker to create the
        // new lease gets the claim.
        for _ in 0..2 {
            if self.put_file(&file, &lease, PublishMode::CreateOnly)? == PublishOutcome::Published {
                self.held.files().insert(file.clone());
                self.held.start_heartbeat();
                return Ok(ClaimOutcome::Acquired(Claim { file, held: Arc::clone(&self.held) }));
            }
            let Some(entry) = self.backend.head(&file)? else { continue };
            let Some(bytes) = self.backend.read(&file)? else { continue };
            match checksum::verify_checksum::<Lease>(&file, &bytes) {
                Ok(lease) if !lease.holder.is_surely_dead() && !self.held.is_stale(&file, entry.modified) => {
                    return Ok(ClaimOutcome::HeldBy(lease.holder.process));
                }
                _ => self.backend.remove(&entry)?,
            }
        }
        Ok(ClaimOutcome::HeldBy(Process::current()))
    }
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
        let outcome = store.claim(action).expect("no error");
        assert!(matches!(outcome, ClaimOutcome::HeldBy(process) if process == holder));
        let report = store.verify(crate::store::VerifyDepth::Full, false).expect("no error");
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        // A minute without a heartbeat, as this process saw it.
        let long_ago = Instant::now().checked_sub(2 * LEASE_TIMEOUT).expect("an earlier instant");
        store.held.watched.lock().expect("a lock").values_mut().for_each(|(_, seen)| *seen = long_ago);
        assert!(matches!(store.claim(action), Ok(ClaimOutcome::Acquired(_))));
    }

    #[test]
    fn the_lease_of_a_dead_process_of_this_container_is_taken_over_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(folder.path()).expect("a store");
        let action = ActionKey(Digest::of(b"x"));
        let mut holder = Owner::current();
        holder.process.pid = ABSENT;
        let lease = checksum::with_checksum(&Lease { action, holder }).expect("a lease");
        store.put_file(&layout::claim(action), &lease, PublishMode::CreateOnly).expect("a lease file");
        assert!(matches!(store.claim(action), Ok(ClaimOutcome::Acquired(_))));
    }
}
