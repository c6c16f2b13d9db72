//! Progress events and interruption of long work. The command decides how to display them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Result, StageError};

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

/// A request to stop (Ctrl-C, SIGTERM, SIGHUP). Finished work is kept, unfinished shards are
/// dropped.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Requests that all work stops.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was requested.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns the flag itself, for code that cannot use this type.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Returns an error once a stop was requested.
    ///
    /// # Errors
    /// [`StageError::Interrupted`].
    pub fn check(&self) -> Result<()> {
        if self.is_requested() { Err(StageError::Interrupted) } else { Ok(()) }
    }
}
