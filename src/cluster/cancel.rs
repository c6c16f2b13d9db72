//! Cancelling the jobs of submissions.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::error::Result;
use super::reasons::is_over;
use super::slurm::{self, QueuedJob};
use super::submission::{JobEnd, StoredSubmission, submissions, write_cancellation, write_end};
use super::submit::{check_cluster, lock, with_lost_jobs};
use crate::store::{Store, now_ms};

/// Time for which the ends of cancelled jobs are waited for: Slurm kills a job some 30 seconds
/// after it asked it to end.
const WAIT: Duration = Duration::from_secs(60);

/// The cancelled jobs of an evolution.
#[derive(Debug, Clone, Default)]
pub struct Cancellation {
    /// Ids of the jobs that were queued or running.
    pub cancelled: Vec<String>,
    /// Ids of those that have not ended yet.
    pub ending: Vec<String>,
}

/// Cancels all jobs of an evolution that are queued or running, and waits for their end for at
/// most a minute.
///
/// # Errors
/// The batch system does not answer, or the store cannot be used.
pub fn cancel(store: &Store, evolution: &str) -> Result<Cancellation> {
    let _lock = lock(store, evolution, 0)?;
    let all = with_lost_jobs(store, submissions(store, Some(evolution))?)?;
    let recent = &all[all.len().saturating_sub(20)..];
    let alive = alive(recent)?;
    if let Some(newest) = recent.last() {
        check_cluster(newest)?;
    }
    // First the notes: a job that ends at its time limit must not requeue itself any more.
    let is_alive = |one: &&StoredSubmission| alive.iter().any(|job| one.has_job(job));
    for submission in recent.iter().filter(is_alive).chain(recent.last()) {
        write_cancellation(store, &submission.name)?;
    }
    if alive.is_empty() {
        return Ok(Cancellation::default());
    }
    let bases: BTreeSet<&str> = alive.iter().map(QueuedJob::base_id).collect();
    let bases: Vec<&str> = bases.into_iter().collect();
    slurm::cancel(&bases)?;
    let ending = wait_for_end(recent)?;
    for submission in recent {
        record_ends(store, submission, &alive);
    }
    Ok(Cancellation { cancelled: alive.into_iter().map(|job| job.id).collect(), ending })
}

/// Returns the jobs of submissions that are queued or running.
fn alive(submissions: &[StoredSubmission]) -> Result<Vec<QueuedJob>> {
    let ids: Vec<&str> = submissions.iter().flat_map(|one| &one.jobs).map(|job| job.id.as_str()).collect();
    let jobs = slurm::jobs_with_ids(&ids, slurm::QUESTION)?.into_iter();
    Ok(jobs.filter(|job| !is_over(&job.state) && submissions.iter().any(|one| one.has_job(job))).collect())
}

/// Waits until jobs have ended, and returns those that have not.
fn wait_for_end(submissions: &[StoredSubmission]) -> Result<Vec<String>> {
    let deadline = Instant::now() + WAIT;
    let mut pause = Duration::from_millis(200);
    loop {
        let alive = alive(submissions)?;
        if alive.is_empty() || Instant::now() > deadline {
            return Ok(alive.into_iter().map(|job| job.id).collect());
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_secs(2));
    }
}

/// Records the ends of jobs that had not started, because no program of theirs did so.
fn record_ends(store: &Store, submission: &StoredSubmission, cancelled: &[QueuedJob]) {
    let own = |job: &&QueuedJob| submission.has_job(job);
    for job in cancelled.iter().filter(own).filter(|job| job.state == "PENDING") {
        let end = JobEnd {
            job: job.id.replace(['[', ']', '%', ','], "-"),
            node: None,
            code: 130,
            message: "cancelled by `visplay cancel`".to_owned(),
            restarts: job.restarts,
            requeues: submission.ends.get(&job.id).map_or(0, |end| end.requeues),
            is_requeued: false,
            ended_ms: now_ms(),
        };
        // The record is for people; the job is cancelled in any case.
        let _ = write_end(store, &submission.name, &end);
    }
}
