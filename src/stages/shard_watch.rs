//! The watch over a shard that another process computes: whether that process hangs or is slow.

use std::time::{Duration, Instant};

use super::Result;
use crate::store::{Process, Store};

/// Least time without progress after which a process hangs.
const STUCK_AFTER: Duration = Duration::from_secs(600);
/// Least time without progress after which a process hangs, in typical times of a shard.
const STUCK_SHARDS: u32 = 5;
/// A shard is slow after this many typical times.
const SLOW_SHARDS: u32 = 2;
/// Least time after which a shard is slow: computing a short one twice would save nothing.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// Interval between looks at the holder's note, which it rewrites every few seconds.
const NOTE_INTERVAL: Duration = Duration::from_secs(10);

/// A shard that another process computes.
#[derive(Debug)]
pub(super) struct ShardWatch {
    /// The process.
    pub(super) holder: Process,
    since: Instant,
    /// Units of work that the holder had done when they last changed, and when that was seen.
    progress: (Option<u64>, Instant),
    noted: Option<Instant>,
}

impl ShardWatch {
    /// Begins to watch.
    pub(super) fn new(holder: Process) -> Self {
        let now = Instant::now();
        Self { holder, since: now, progress: (None, now), noted: None }
    }

    /// Returns the time since the holder last made progress, as far as this process has seen.
    pub(super) fn standstill(&self) -> Duration {
        self.progress.1.elapsed()
    }

    /// Whether the holder is alive but hangs: it has made no progress for ten minutes and for five
    /// times as long as a shard typically takes. A holder without a note cannot be judged.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn is_stuck(&mut self, store: &Store, typical: Duration) -> Result<bool> {
        if self.noted.is_none_or(|noted| noted.elapsed() > NOTE_INTERVAL) {
            self.noted = Some(Instant::now());
            let units = store.worker_note(&self.holder)?.map(|note| note.units);
            if units != self.progress.0 {
                self.progress = (units, Instant::now());
            }
        }
        Ok(self.progress.0.is_some() && self.standstill() > STUCK_AFTER.max(typical * STUCK_SHARDS))
    }

    /// Whether the shard takes longer than is typical.
    pub(super) fn is_slow(&self, typical: Duration) -> bool {
        self.since.elapsed() > SLOW_AFTER.max(typical * SLOW_SHARDS)
    }

    #[cfg(test)]
    fn pass(&mut self, time: Duration) {
        let earlier = |instant: Instant| instant.checked_sub(time).expect("an earlier instant");
        self.since = earlier(self.since);
        self.progress.1 = earlier(self.progress.1);
        self.noted = self.noted.map(earlier);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{WorkerNote, WorkerRole};

    fn note(units: u64) -> WorkerNote {
        WorkerNote { units, ..WorkerNote::new(Process::current(), WorkerRole::Any, "work") }
    }

    #[test]
    fn a_holder_that_makes_no_progress_hangs_after_ten_minutes_and_five_shards() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(folder.path()).expect("a store");
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let mut watch = ShardWatch::new(Process::current());
        // Without a note nothing is known.
        watch.pass(minutes(60));
        assert!(!watch.is_stuck(&store, minutes(1)).expect("no error"));
        store.write_worker_note(&note(1)).expect("a note");
        watch.pass(minutes(1));
        assert!(!watch.is_stuck(&store, minutes(1)).expect("no error"));
        watch.pass(minutes(9));
        assert!(!watch.is_stuck(&store, minutes(1)).expect("no error"));
        watch.pass(minutes(2));
        assert!(!watch.is_stuck(&store, minutes(3)).expect("no error"), "a shard takes three minutes");
        assert!(watch.is_stuck(&store, minutes(1)).expect("no error"));
        store.write_worker_note(&note(2)).expect("a note");
        watch.pass(minutes(1));
        assert!(!watch.is_stuck(&store, minutes(1)).expect("no error"), "it goes on");
    }

    #[test]
    fn a_shard_is_slow_after_twice_the_typical_time() {
        let mut watch = ShardWatch::new(Process::current());
        watch.pass(Duration::from_secs(7));
        assert!(!watch.is_slow(Duration::from_secs(4)));
        assert!(watch.is_slow(Duration::from_secs(3)));
        assert!(!ShardWatch::new(Process::current()).is_slow(Duration::ZERO));
    }
}
