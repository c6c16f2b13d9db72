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

/// The reason why a process takes no more shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainCause {
    /// Its time ends (SIGUSR1 of a batch system, `--until`): its job continues the work later.
    TimeLimit,
    /// Somebody asked it to end (`visplay drain`): its job does not come back.
    Request,
}

/// A request to stop (Ctrl-C, SIGTERM, SIGHUP) or to drain (SIGUSR1, `visplay drain`). Finished
/// work is kept. A process that stops drops its unfinished shards; one that drains finishes them
/// and takes no more.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    stop: Arc<AtomicBool>,
    reasons: Arc<Reasons>,
}

/// The reasons of an interrupt; several may hold.
#[derive(Debug, Default)]
struct Reasons {
    time_limit: AtomicBool,
    drain_request: AtomicBool,
    cancellation: AtomicBool,
}

impl Interrupt {
    /// Requests that all work stops.
    pub fn request(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Requests that all work stops and that the process's job does not continue it, even if the
    /// process was draining at its time limit.
    pub fn cancel(&self) {
        self.reasons.cancellation.store(true, Ordering::Relaxed);
        self.request();
    }

    /// Requests that no further shard is taken.
    pub fn request_drain(&self, cause: DrainCause) {
        let reason = match cause {
            DrainCause::TimeLimit => &self.reasons.time_limit,
            DrainCause::Request => &self.reasons.drain_request,
        };
        reason.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was requested.
    pub fn is_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether draining was requested.
    pub fn is_draining(&self) -> bool {
        self.is_at_time_limit() || self.reasons.drain_request.load(Ordering::Relaxed)
    }

    /// Whether the process drains because its time ends.
    pub fn is_at_time_limit(&self) -> bool {
        self.reasons.time_limit.load(Ordering::Relaxed)
    }

    /// Whether the process ends only because of its time limit, so that its job is to continue the
    /// work.
    pub fn is_to_be_continued(&self) -> bool {
        let is_asked_to_end = self.reasons.drain_request.load(Ordering::Relaxed) || self.is_cancelled();
        self.is_at_time_limit() && !is_asked_to_end
    }

    fn is_cancelled(&self) -> bool {
        self.reasons.cancellation.load(Ordering::Relaxed)
    }

    /// Returns the stop flag itself, for code that cannot use this type.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Returns an error once a stop was requested.
    ///
    /// # Errors
    /// [`StageError::Interrupted`]; [`StageError::Drained`] if the process was draining before and
    /// was not cancelled.
    pub fn check(&self) -> Result<()> {
        match (self.is_requested(), self.is_draining() && !self.is_cancelled()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_that_ends_at_its_time_limit_is_to_be_continued() {
        let after = |events: &[fn(&Interrupt)]| {
            let interrupt = Interrupt::default();
            events.iter().for_each(|event| event(&interrupt));
            interrupt
        };
        let limit: fn(&Interrupt) = |interrupt| interrupt.request_drain(DrainCause::TimeLimit);
        let drain: fn(&Interrupt) = |interrupt| interrupt.request_drain(DrainCause::Request);
        let stop: fn(&Interrupt) = Interrupt::request;
        let cancel: fn(&Interrupt) = Interrupt::cancel;
        type Requests<'a> = &'a [fn(&Interrupt)];
        let cases: [(Requests<'_>, bool); 7] = [
            (&[], false),
            (&[limit], true),
            (&[limit, stop], true),
            (&[drain], false),
            (&[limit, drain], false),
            (&[drain, limit], false),
            (&[limit, cancel], false),
        ];
        for (events, expected) in cases {
            assert_eq!(after(events).is_to_be_continued(), expected);
        }
        for drained in [after(&[limit]), after(&[drain]), after(&[limit, stop]), after(&[drain, stop])] {
            assert!(matches!(drained.check_new_shard(), Err(StageError::Drained)));
        }
        after(&[limit]).check().expect("the shard in hand is finished");
        assert!(matches!(after(&[limit, cancel]).check(), Err(StageError::Interrupted)));
        assert!(matches!(after(&[cancel]).check_new_shard(), Err(StageError::Interrupted)));
    }
}
