//! Progress events and interruption of long work. The command decides how to display them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Result, StageError};
use crate::store::{ActionKey, Process};

/// Receives progress events.
pub trait Progress: Send + Sync {
    /// Begins a phase of `total` units of work (0: not known).
    fn begin(&self, phase: &str, total: u64);
    /// Reports that `units` more units are done.
    fn advance(&self, units: u64);
    /// Ends the phase.
    fn end(&self);
    /// Shows a message to the user.
    fn say(&self, message: &str);
    /// Names the round that begins.
    fn works_on(&self, _evolution: &str, _round: u32) {}
    /// Names the part of the round that begins, such as `Questioner, step 7 of 20`.
    fn part(&self, _name: &str) {}
    /// Reports that this process takes, finishes or awaits a shard.
    fn shard(&self, _event: &ShardEvent) {}
    /// Reports how many shards of the stage have a result.
    fn shards(&self, _shards: ShardCounts) {}
    /// Reports that `tokens` more tokens were sampled.
    fn tokens(&self, _tokens: u64) {}
}

/// Shards of a stage, as far as this process has seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShardCounts {
    /// Number of shards with a result.
    pub done: u64,
    /// Number of all shards.
    pub total: u64,
    /// Time that a shard typically takes, if it is known.
    pub typical: Option<Duration>,
}

/// An event in the life of a shard in this process.
#[derive(Debug, Clone)]
pub enum ShardEvent {
    /// This process begins to compute it.
    Began(ActionKey),
    /// This process no longer computes it; `is_done` if it published its result.
    Ended {
        /// Whether the result was published.
        is_done: bool,
    },
    /// This process waits for another one that computes it.
    Awaited(ActionKey, Process),
}

/// Ignores every progress event.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _phase: &str, _total: u64) {}
    fn advance(&self, _units: u64) {}
    fn end(&self) {}
    fn say(&self, _message: &str) {}
}

/// A request to stop (Ctrl-C, SIGTERM, SIGHUP) or to drain (SIGUSR1, `visplay drain`). Finished
/// work is kept. A process that stops drops its unfinished shards; one that drains finishes them
/// and takes no more.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    stop: Arc<AtomicBool>,
    drain: Arc<AtomicBool>,
}

impl Interrupt {
    /// Requests that all work stops.
    pub fn request(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Requests that no further shard is taken.
    pub fn request_drain(&self) {
        self.drain.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was requested.
    pub fn is_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether draining was requested.
    pub fn is_draining(&self) -> bool {
        self.drain.load(Ordering::Relaxed)
    }

    /// Returns the stop flag itself, for code that cannot use this type.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Returns an error once a stop was requested.
    ///
    /// # Errors
    /// [`StageError::Interrupted`]; [`StageError::Drained`] if the process was draining before.
    pub fn check(&self) -> Result<()> {
        match (self.is_requested(), self.is_draining()) {
            (false, _) => Ok(()),
            (true, false) => Err(StageError::Interrupted),
            (true, true) => Err(StageError::Drained),
        }
    }

    /// Returns an error once no further shard is to be taken.
    ///
    /// # Errors
    /// [`StageError::Interrupted`] or [`StageError::Drained`].
    pub fn check_new_shard(&self) -> Result<()> {
        self.check()?;
        if self.is_draining() { Err(StageError::Drained) } else { Ok(()) }
    }
}
