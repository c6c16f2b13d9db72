//! The end of the job that this process runs in: its record in the store, and its requeue.

use super::script::SUBMISSION_VARIABLE;
use super::slurm;
use super::submission::{JobEnd, SubmissionName, is_cancelled, last_end, submissions, write_end};
use crate::batch_job::BatchJob;
use crate::store::{Store, now_ms};

/// Exit code of a process that was interrupted by a signal. Slurm requeues a preempted job itself.
const INTERRUPTED: u8 = 130;

/// The outcome of the program in a job.
#[derive(Debug, Clone, Copy)]
pub struct JobOutcome<'a> {
    /// Exit code.
    pub code: u8,
    /// The reason, in words; empty if the work is done.
    pub message: &'a str,
    /// Whether work is left that the job itself should continue: it was asked to make room before
    /// its time limit. No error is continued: it would happen again.
    pub continues: bool,
}

/// Records the end of this process's Slurm job, and requeues the job if its work continues, the
/// submission was not cancelled, and it requeued itself fewer than `requeues` times. Returns a
/// message about it.
///
/// Call it last: requeuing ends the process. Outside of a job, nothing happens.
pub fn end_job(store: &Store, outcome: JobOutcome<'_>, requeues: Option<u32>) -> Option<String> {
    let job = BatchJob::current().filter(|job| job.system == "slurm")?;
    let name = std::env::var(SUBMISSION_VARIABLE).ok().and_then(|name| SubmissionName::parse(&name));
    let last = name.as_ref().and_then(|name| last_end(store, name, &job.id).ok().flatten());
    // Slurm counts requeues by preemption and by hand too, which the limit is not about.
    let own_requeues = if name.is_some() { last.map_or(0, |end| end.requeues) } else { job.restarts };
    let is_cancelled = name.as_ref().is_some_and(|name| is_cancelled(store, name).unwrap_or(false));
    let outcome = JobOutcome { continues: outcome.continues && !is_cancelled, ..outcome };
    let decision = decide(&job.id, outcome, own_requeues, requeues);
    let record = |message: &str, is_requeued: bool| {
        let Some(name) = &name else { return };
        let end = JobEnd {
            job: job.id.clone(),
            node: job.node.clone(),
            code: outcome.code,
            message: message.to_owned(),
            restarts: job.restarts,
            requeues: own_requeues + u32::from(is_requeued),
            is_requeued,
            ended_ms: now_ms(),
        };
        // A store that is full or read-only may be the reason for the end.
        let _ = write_end(store, name, &end);
    };
    match decision {
        Decision::End => {
            let is_cut_short = is_cancelled && outcome.code != 0;
            record(if is_cut_short { "cancelled by `visplay cancel`" } else { outcome.message }, false);
            if let Some(name) = name.filter(|_| outcome.code != INTERRUPTED) {
                cancel_waiting_judges(store, &name, &job.id);
            }
            None
        }
        Decision::LimitReached(message) => {
            record(&message, false);
            Some(message)
        }
        Decision::Requeue(message) => {
            record(outcome.message, true);
            match slurm::requeue(&job.id) {
                Ok(()) => Some(message),
                Err(e) => {
                    let message = format!("the job {} could not be requeued: {e}", job.id);
                    record(&message, false);
                    Some(message)
                }
            }
        }
    }
}

/// The decision about a job at its end, with a message.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    End,
    Requeue(String),
    LimitReached(String),
}

fn decide(id: &str, outcome: JobOutcome<'_>, own_requeues: u32, limit: Option<u32>) -> Decision {
    let Some(limit) = limit.filter(|_| outcome.continues) else { return Decision::End };
    match own_requeues < limit {
        true => Decision::Requeue(format!("the job {id} is requeued ({} of {limit})", own_requeues + 1)),
        false => Decision::LimitReached(format!(
            "the job {id} was requeued as often as `requeues` allows ({own_requeues}) and ends; submit the round again to \
             continue it"
        )),
    }
}

/// Cancels the judge workers of a round that have not started, when the job that runs the round
/// ends: they would find no work.
fn cancel_waiting_judges(store: &Store, name: &SubmissionName, job: &str) {
    let Ok(all) = submissions(store, Some(&name.evolution)) else { return };
    let Some(submission) = all.into_iter().find(|one| one.name == *name) else { return };
    if submission.driver().is_none_or(|driver| driver.id != job) {
        return;
    }
    let judges: Vec<&str> = submission.jobs.iter().filter(|one| !one.is_driver()).map(|one| one.id.as_str()).collect();
    // Workers that start nevertheless end when they have been idle for a while.
    let _ = slurm::cancel_pending(&judges);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(code: u8, continues: bool, own_requeues: u32, limit: Option<u32>) -> Decision {
        decide("4711_3", JobOutcome { code, message: "", continues }, own_requeues, limit)
    }

    #[test]
    fn only_work_that_continues_is_requeued_and_not_for_ever() {
        for code in [0, 1, 2, 3, 4, 130] {
            assert_eq!(decision(code, false, 0, Some(20)), Decision::End, "{code}");
        }
        let Decision::Requeue(message) = decision(75, true, 2, Some(20)) else { panic!("it must be requeued") };
        assert_eq!(message, "the job 4711_3 is requeued (3 of 20)");
        assert!(matches!(decision(75, true, 19, Some(20)), Decision::Requeue(_)));
        assert!(matches!(decision(75, true, 20, Some(20)), Decision::LimitReached(_)));
        assert!(matches!(decision(75, true, 0, Some(0)), Decision::LimitReached(_)));
        assert_eq!(decision(75, true, 0, None), Decision::End);
    }
}
