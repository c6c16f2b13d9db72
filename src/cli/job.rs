//! The job of a batch system that a command runs in: its time limit, and its end.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;

use crate::batch_job::job_end;
use crate::cli::args::StoreArgs;
use crate::cli::duration::parse_duration;
use crate::cli::{CommandError, Result, exit};
use crate::cluster::{JobOutcome, end_job};
use crate::messages::write_message;
use crate::stages::{DrainCause, Interrupt};
use crate::store::Store;

/// Time before the limit of a job at which its work is dropped, if it has not ended by then. A
/// SIGTERM within it is taken for that of the time limit, and an earlier one for a cancellation.
const LAST_MOMENT: Duration = Duration::from_secs(30);

/// The time and the end of a job.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Take no more work after this time, as hours, minutes and seconds (7:45:00), or such as 90s,
    /// 10m or 2h.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    until: Option<Duration>,
    /// When this process's Slurm job nears its time limit, requeue it, at most N times.
    #[arg(long, value_name = "N")]
    requeues: Option<u32>,
}

impl JobArgs {
    /// Begins the work of a job.
    pub fn begin(&self) -> Job {
        Job {
            interrupt: Interrupt::default(),
            until: self.until.map(|time| Instant::now() + time),
            requeues: self.requeues,
            is_recorded: Arc::default(),
        }
    }
}

/// The work of a process that may run in a job of a batch system.
#[derive(Debug, Clone)]
pub struct Job {
    /// The interrupt of the work.
    pub interrupt: Interrupt,
    until: Option<Instant>,
    requeues: Option<u32>,
    is_recorded: Arc<Mutex<bool>>,
}

impl Job {
    /// Records the end of the job in the store, and requeues the job if its work continues. Call it
    /// after the work's session has ended.
    pub fn end(&self, store: &StoreArgs, outcome: Result<()>) -> Result<()> {
        let (code, message) = outcome.as_ref().map_or_else(|e| (e.code, e.message.as_str()), |()| (exit::DONE, ""));
        // A store that cannot be opened is what the outcome is about.
        if let Ok(store) = Store::open(&store.store) {
            self.record_end(&store, code, message);
        }
        outcome
    }

    /// Records the end as [`end`](Self::end) does, once: the thread that ends a process whose work
    /// does not end in time may be here at the same time as the work itself.
    fn record_end(&self, store: &Store, code: u8, message: &str) {
        let mut is_recorded = self.is_recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *is_recorded, true) {
            return;
        }
        let continues = code == exit::TO_BE_CONTINUED && self.interrupt.is_to_be_continued();
        if let Some(message) = end_job(store, JobOutcome { code, message, continues }, self.requeues) {
            write_message(&format!("visplay: {message}"));
        }
    }

    /// Records the end of a job whose work was dropped, and returns the exit code.
    pub fn end_dropped(&self, store: &Store) -> u8 {
        let outcome = self.interrupt.check().map_err(CommandError::from);
        let (code, message) = outcome.map_or_else(|e| (e.code, e.message), |()| (exit::INTERRUPTED, String::new()));
        self.record_end(store, code, &message);
        code
    }

    /// Drains the work when its time is over, and calls `drop_work` shortly before the job's limit
    /// if it has not ended by then: an update of a large model takes longer than any warning.
    pub fn watch_time(&self, drop_work: impl FnOnce() + Send + 'static) {
        let (job, limit) = (self.clone(), job_end());
        if job.until.is_none() && limit.is_none() {
            return;
        }
        thread::spawn(move || {
            while !job.interrupt.is_at_time_limit() {
                if job.until.is_some_and(|until| Instant::now() >= until) {
                    say_draining();
                    job.interrupt.request_drain(DrainCause::TimeLimit);
                    break;
                }
                thread::sleep(Duration::from_secs(1));
            }
            if let Some(limit) = limit {
                let left = limit.duration_since(SystemTime::now()).unwrap_or_default();
                thread::sleep(time_to_finish(left));
                drop_work();
            }
        });
    }
}

/// Tells people that the process drains.
pub fn say_draining() {
    write_message("visplay: draining: the shard in hand is finished, and no other one is taken");
}

/// Returns the part of the time left before a limit in which a shard may be finished.
fn time_to_finish(left: Duration) -> Duration {
    left.saturating_sub(LAST_MOMENT.min(left / 2))
}

/// Returns whether a SIGTERM at this moment comes from somebody who ends the job, and not from its
/// time limit, if that is known.
pub fn is_before_time_limit() -> bool {
    is_before(job_end(), SystemTime::now())
}

fn is_before(limit: Option<SystemTime>, now: SystemTime) -> bool {
    limit.is_some_and(|limit| now + LAST_MOMENT < limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_well_before_the_limit_is_not_that_of_the_limit() {
        let now = SystemTime::now();
        let limit = |seconds| Some(now + Duration::from_secs(seconds));
        assert!(is_before(limit(3600), now) && is_before(limit(31), now));
        assert!(!is_before(limit(30), now) && !is_before(Some(now - Duration::from_secs(40)), now));
        assert!(!is_before(None, now), "without a known limit, a drained job continues");
    }

    #[test]
    fn work_is_dropped_in_time_for_a_requeue() {
        for (left, finish) in [(300, 270), (60, 30), (40, 20), (0, 0)] {
            assert_eq!(time_to_finish(Duration::from_secs(left)), Duration::from_secs(finish), "{left}");
        }
    }

    #[test]
    fn an_end_is_recorded_once_and_has_the_code_of_its_reason() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(folder.path()).expect("a store");
        let job = JobArgs { until: None, requeues: None }.begin();
        job.interrupt.request_drain(DrainCause::TimeLimit);
        job.interrupt.request();
        assert_eq!(job.end_dropped(&store), exit::TO_BE_CONTINUED);
        job.interrupt.cancel();
        assert_eq!(job.end_dropped(&store), exit::INTERRUPTED);
        assert!(*job.is_recorded.lock().expect("no panic"));
    }
}
