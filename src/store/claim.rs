//! Claims: leases on work in progress. They keep two workers from doing the same work; correctness never rests on
//! them, since results are create-only and two workers that do the same work make the same bytes.
//!
//! A holder touches its lease every few seconds. Another worker takes a lease over when its holder ran on the same
//! host and is gone, or when the lease was not touched while that worker watched it for [`LEASE_TIMEOUT`]: only the watcher's
//! own monotonic clock counts, so hosts whose clocks differ are no trouble.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::action::ActionKey;
use super::backend::{Backend, PublishMode, PublishOutcome};
use super::error::StoreError;
use super::layout;
use super::process::Process;
use super::{Store, checksum};

/// How long a lease may go untouched before another worker takes it over.
pub const LEASE_TIMEOUT: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What a lease file says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lease {
    pub(super) action: ActionKey,
    pub(super) holder: Process,
}

/// The right to do a piece of work, given back when dropped.
#[derive(Debug)]
pub struct Claim {
    file: String,
    held: Arc<HeldLeases>,
}

/// How asking for a claim went.
#[derive(Debug)]
pub enum ClaimOutcome {
    /// The work is ours.
    Ours(Claim),
    /// A living worker does it.
    Taken(Process),
}

/// The leases that this process holds or watches.
#[derive(Debug)]
pub(super) struct HeldLeases {
    backend: Arc<dyn Backend>,
    files: Mutex<BTreeSet<String>>,
    watched: Mutex<BTreeMap<String, (SystemTime, Instant)>>,
    beating: std::sync::Once,
}

impl HeldLeases {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Arc<Self> {
        Arc::new(Self { backend, files: Mutex::default(), watched: Mutex::default(), beating: std::sync::Once::new() })
    }

    fn files(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a lease has not been touched for [`LEASE_TIMEOUT`] of watching.
    fn is_stale(&self, file: &str, modified: SystemTime) -> bool {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = watched.entry(file.to_owned()).or_insert((modified, Instant::now()));
        if seen.0 != modified {
            *seen = (modified, Instant::now());
        }
        seen.1.elapsed() > LEASE_TIMEOUT
    }

    /// Touches every held lease until the store is closed.
    fn keep_beating(self: &Arc<Self>) {
        let weak: Weak<Self> = Arc::downgrade(self);
        self.beating.call_once(|| {
            let beat = move || {
                loop {
                    std::thread::sleep(HEARTBEAT);
                    let Some(held) = weak.upgrade() else { return };
                    let files: Vec<String> = held.files().iter().cloned().collect();
                    for file in files {
                        // A lease that cannot be touched is taken over at worst, which costs work, not correctness.
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
    /// Asks for the right to run an action.
    pub fn claim(&self, action: ActionKey) -> Result<ClaimOutcome, StoreError> {
        let file = layout::claim(action);
        let lease = checksum::with_checksum(&Lease { action, holder: Process::current() })?;
        // A second round follows a takeover; whoever is quicker then has it.
        for _ in 0..2 {
            if self.put_file(&file, &lease, PublishMode::CreateOnly)? == PublishOutcome::Published {
                self.held.files().insert(file.clone());
                self.held.keep_beating();
                return Ok(ClaimOutcome::Acquired(Claim { file, held: Arc::clone(&self.held) }));
            }
            let Some(entry) = self.backend.head(&file)? else { continue };
            let Some(bytes) = self.backend.read(&file)? else { continue };
            match checksum::verify_checksum::<Lease>(&file, &bytes) {
                Ok(there) if !there.holder.is_surely_dead() && !self.held.is_stale(&file, entry.modified) => {
                    return Ok(ClaimOutcome::HeldBy(there.holder));
                }
                _ => self.backend.remove(&entry)?,
            }
        }
        Ok(ClaimOutcome::HeldBy(Process::current()))
    }
}
