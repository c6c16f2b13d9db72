//! Progress of long work and the wish to stop it, without a screen: the command decides how they look.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::StageError;

/// Who is told how far long work has come.
pub trait Progress: Send + Sync {
    /// A phase begins: what is done, and how many units of it there are (0: not known).
    fn begin(&self, phase: &str, total: u64);
    /// So many more units are done.
    fn advance(&self, units: u64);
    /// The phase is over.
    fn end(&self);
    /// Something that the person at the terminal should know.
    fn say(&self, message: &str);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _phase: &str, _total: u64) {}
    fn advance(&self, _units: u64) {}
    fn end(&self) {}
    fn say(&self, _message: &str) {}
}

/// The wish to stop (Ctrl-C, SIGTERM): what is done stays done, what is half-done is dropped.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks everyone who looks to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What is true once work is to stop, for those who cannot ask this.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Ends work that should stop.
    ///
    /// # Errors
    /// [`StageError::Interrupted`] once the wish is there.
    pub fn check(&self) -> Result<(), StageError> {
        if self.is_requested() { Err(StageError::Interrupted) } else { Ok(()) }
    }
}
