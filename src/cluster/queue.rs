//! The states of submitted jobs, from the records in the store and one question to Slurm.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::error::{ClusterError, Result};
use super::reasons::{is_over, reason_in_words, state_in_words, waits_for_ever};
use super::script::JobKind;
use super::slurm::{self, QueuedJob};
use super::submission::{JobEnd, StoredSubmission, SubmittedJob, submissions};
use crate::store::Store;

/// Number of submissions whose jobs are looked up; jobs of older ones have long ended.
const RECENT: usize = 50;
/// Exit code of a process that was asked to end before its work was done.
const TO_BE_CONTINUED: u8 = 75;

/// The state of a job, or of tasks of an array that have not started yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobState {
    /// Id, as Slurm writes it: `4711`, `4711_3`, `4711_[4-7]`.
    pub id: String,
    /// Its work: `driver` or `judge`.
    pub kind: &'static str,
    /// The evolution.
    pub evolution: String,
    /// The round.
    pub round: u32,
    /// Slurm's state, such as `PENDING`; empty if Slurm does not know the job or was not asked.
    pub state: String,
    /// The state in words.
    pub words: String,
    /// Why it waits or how it ended, in words: `waits for free nodes`, `back at 08:31`.
    pub reason: Option<String>,
    /// Whether what the job waits for will not happen.
    pub waits_for_ever: bool,
    /// Whether the job has ended and will not come back.
    pub is_over: bool,
    /// How often it requeued itself at its time limit.
    pub requeues: u32,
    /// How often it may do so.
    pub requeue_limit: u32,
    /// Its nodes; empty before it starts.
    pub nodes: String,
    /// Its log, with `*` for the number of each task that has not started.
    pub log: PathBuf,
}

/// The states of an evolution's jobs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct JobStates {
    /// The jobs, those of the newest submission last.
    pub jobs: Vec<JobState>,
    /// Why Slurm could not be asked, in words; then states are those that the store records.
    pub note: Option<String>,
}

/// Returns the states of an evolution's jobs: those of its newest submission, and those of earlier
/// ones that have not ended. Asks Slurm once, and only if there are submissions.
///
/// # Errors
/// The store cannot be read. A batch system that does not answer is no error.
pub fn jobs(store: &Store, evolution: Option<&str>) -> Result<JobStates> {
    let mut all = submissions(store, evolution)?;
    let recent = all.split_off(all.len().saturating_sub(RECENT));
    let (queue, mut note) = match ask(&recent) {
        Ok(queue) => (Some(queue), None),
        Err(e @ ClusterError::NoCommand { .. }) => {
            (None, Some(format!("{e}, so that states of jobs are unknown; run the command where Slurm is installed")))
        }
        Err(e) => (None, Some(format!("{e}, so that states of jobs are unknown"))),
    };
    let mut states = Vec::new();
    for (i, submission) in recent.iter().enumerate() {
        let is_newest = recent[i + 1..].iter().all(|one| one.name.evolution != submission.name.evolution);
        // Another cluster's jobs cannot be asked about here.
        let is_elsewhere = queue.as_ref().is_some_and(|queue| submission.may_run_elsewhere(&queue.cluster));
        if is_elsewhere && note.is_none() {
            let cluster = &submission.record.cluster;
            note = Some(format!("states of jobs are unknown here; run the command on the cluster {cluster}"));
        }
        let queue = queue.as_ref().filter(|_| !is_elsewhere);
        let of_submission = submission.jobs.iter().flat_map(|job| states_of(submission, job, queue));
        states.extend(of_submission.filter(|state| is_newest || (queue.is_some() && !state.is_over)));
    }
    Ok(JobStates { jobs: states, note })
}

/// The jobs that Slurm knows.
#[derive(Default)]
struct Queue {
    /// The cluster's name.
    cluster: String,
    /// The jobs, by the id of the job or array.
    jobs: BTreeMap<String, Vec<QueuedJob>>,
}

fn ask(submissions: &[StoredSubmission]) -> Result<Queue> {
    let ids: Vec<&str> = submissions.iter().flat_map(|one| &one.jobs).map(|job| job.id.as_str()).collect();
    let mut queue = Queue::default();
    for job in slurm::jobs_with_ids(&ids, slurm::GLANCE)? {
        queue.jobs.entry(job.base_id().to_owned()).or_default().push(job);
    }
    if submissions.iter().any(|one| !one.record.cluster.is_empty()) {
        queue.cluster = slurm::cluster_name(slurm::GLANCE)?;
    }
    Ok(queue)
}

/// Returns the states of a job: one for each task of an array that has started, and one for the
/// others.
fn states_of(submission: &StoredSubmission, job: &SubmittedJob, queue: Option<&Queue>) -> Vec<JobState> {
    let queued = queue.and_then(|queue| queue.jobs.get(&job.id)).map(Vec::as_slice).unwrap_or_default();
    let own: Vec<&QueuedJob> = queued.iter().filter(|one| submission.owns(one)).collect();
    match own.as_slice() {
        [] => vec![forgotten(submission, job, queue.is_some())],
        own => own.iter().map(|one| queued_state(submission, job, one)).collect(),
    }
}

/// Returns the state of a job as Slurm tells it.
fn queued_state(submission: &StoredSubmission, job: &SubmittedJob, queued: &QueuedJob) -> JobState {
    let state = queued.state.split_whitespace().next().unwrap_or_default();
    let is_over = is_over(state);
    let back_at = queued.start.split_once('T').map(|(_, time)| time.get(..5).unwrap_or(time));
    let end = submission.ends.get(&queued.id);
    let recorded = end.filter(|end| is_over || end.is_requeued).map(|end| end.message.clone());
    let told = reason_in_words(&queued.reason, back_at).filter(|_| state != "RUNNING");
    let reason = match (told, recorded.filter(|message| !message.is_empty() && state != "RUNNING")) {
        (Some(told), Some(recorded)) if !is_over => Some(format!("{told}; {recorded}")),
        (told, recorded) => recorded.or(told),
    };
    JobState {
        id: queued.id.clone(),
        kind: job.kind.name(),
        evolution: submission.name.evolution.clone(),
        round: submission.name.round,
        state: state.to_owned(),
        words: match end {
            // Slurm takes every code but 0 for a failure.
            Some(JobEnd { code: TO_BE_CONTINUED, is_requeued: false, .. }) if state == "FAILED" => "ended".to_owned(),
            _ => state_in_words(state),
        },
        reason,
        waits_for_ever: state == "PENDING" && waits_for_ever(&queued.reason),
        is_over,
        requeues: end.map_or(0, |end| end.requeues),
        requeue_limit: submission.record.requeues,
        nodes: queued.nodes.clone(),
        log: log_of(submission, job, &queued.id),
    }
}

/// Returns the state of a job that Slurm does not know, or was not asked about.
fn forgotten(submission: &StoredSubmission, job: &SubmittedJob, was_asked: bool) -> JobState {
    let own = |id: &str| id.split('_').next() == Some(job.id.as_str());
    let last = submission.ends.values().filter(|end| own(&end.job)).max_by_key(|end| end.ended_ms);
    let words = match last {
        Some(end) if end.is_requeued && !was_asked => "requeued".to_owned(),
        Some(end) => format!("ended with exit code {}", end.code),
        None if was_asked => "ended; Slurm has forgotten it".to_owned(),
        None => "submitted".to_owned(),
    };
    JobState {
        id: job.id.clone(),
        kind: job.kind.name(),
        evolution: submission.name.evolution.clone(),
        round: submission.name.round,
        state: String::new(),
        words,
        reason: last.map(|end| end.message.clone()).filter(|message| !message.is_empty()),
        waits_for_ever: false,
        is_over: was_asked || last.is_some_and(|end| !end.is_requeued && job.is_driver()),
        requeues: last.map_or(0, |end| end.requeues),
        requeue_limit: submission.record.requeues,
        nodes: String::new(),
        log: log_of(submission, job, &job.id),
    }
}

/// Returns the path of a job's log.
fn log_of(submission: &StoredSubmission, job: &SubmittedJob, id: &str) -> PathBuf {
    let name = &submission.name;
    let id = match (&job.kind, id.split_once('_')) {
        (JobKind::Driver, _) => id.to_owned(),
        (JobKind::Judge(_), Some((_, task))) if task.bytes().all(|b| b.is_ascii_digit()) => id.to_owned(),
        (JobKind::Judge(_), _) => format!("{}_*", job.id),
    };
    let file = format!("visplay-{}-r{}-{}-{id}.log", name.evolution, name.round, job.kind.name());
    PathBuf::from(&submission.record.logs).join(file)
}

#[cfg(test)]
mod tests {
    use super::super::script::WorkerArray;
    use super::super::submission::{Submission, SubmissionName};
    use super::*;
    use crate::store::Process;

    fn submission(ends: Vec<JobEnd>) -> StoredSubmission {
        let array = WorkerArray { count: 4, at_most_at_once: 0 };
        StoredSubmission {
            name: SubmissionName { evolution: "nano".into(), round: 3, number: 1 },
            record: Submission {
                submitted_ms: 0,
                submitter: Process::current(),
                token: "0123abcd".into(),
                requeues: 20,
                cluster: String::new(),
                logs: "/logs".into(),
            },
            jobs: vec![
                SubmittedJob { id: "7".into(), kind: JobKind::Driver },
                SubmittedJob { id: "8".into(), kind: JobKind::Judge(array) },
            ],
            ends: ends.into_iter().map(|end| (end.job.clone(), end)).collect(),
            scripts: 2,
            is_cancelled: false,
        }
    }

    fn queued(id: &str, state: &str, reason: &str, restarts: u32) -> QueuedJob {
        QueuedJob {
            id: id.into(),
            state: state.into(),
            reason: reason.into(),
            start: "2026-11-30T08:31:05".into(),
            restarts,
            name: "visplay-nano-r3-job".into(),
            ..QueuedJob::default()
        }
    }

    fn queue<const N: usize>(jobs: [(String, Vec<QueuedJob>); N]) -> Queue {
        Queue { cluster: String::new(), jobs: jobs.into() }
    }

    fn end(job: &str, code: u8, message: &str, is_requeued: bool) -> JobEnd {
        let requeues = if is_requeued { 3 } else { 2 };
        let (job, message) = (job.into(), message.into());
        JobEnd { job, node: None, code, message, restarts: 9, requeues, is_requeued, ended_ms: 1 }
    }

    fn shown(submission: &StoredSubmission, queue: Option<&Queue>) -> Vec<String> {
        let states = submission.jobs.iter().flat_map(|job| states_of(submission, job, queue));
        let text = |s: JobState| {
            let reason = s.reason.map_or(String::new(), |reason| format!(": {reason}"));
            format!(
                "{} {} {}{reason} [{} of {}] {}",
                s.id,
                s.kind,
                s.words,
                s.requeues,
                s.requeue_limit,
                s.log.display()
            )
        };
        states.map(text).collect()
    }

    #[test]
    fn queued_jobs_are_told_in_words() {
        let submission = submission(vec![end("7", 75, "the time limit is near", true)]);
        let queue = queue([
            ("7".into(), vec![queued("7", "PENDING", "BeginTime", 8)]),
            ("8".into(), vec![queued("8_0", "RUNNING", "None", 0), queued("8_[1-3]", "PENDING", "Resources", 0)]),
        ]);
        assert_eq!(
            shown(&submission, Some(&queue)),
            [
                "7 driver queued: back at 08:31; the time limit is near [3 of 20] /logs/visplay-nano-r3-driver-7.log",
                "8_0 judge running [0 of 20] /logs/visplay-nano-r3-judge-8_0.log",
                "8_[1-3] judge queued: waits for free nodes [0 of 20] /logs/visplay-nano-r3-judge-8_*.log",
            ]
        );
    }

    #[test]
    fn ended_jobs_say_how_they_ended() {
        let of_gate = submission(vec![end("7", 3, "round 3 was stopped by a gate", false)]);
        let queue = queue([("7".into(), vec![queued("7", "FAILED", "NonZeroExitCode", 0)])]);
        assert_eq!(
            shown(&of_gate, Some(&queue)),
            [
                "7 driver failed: round 3 was stopped by a gate [2 of 20] /logs/visplay-nano-r3-driver-7.log",
                "8 judge ended; Slurm has forgotten it [0 of 20] /logs/visplay-nano-r3-judge-8_*.log",
            ]
        );
        assert_eq!(
            shown(&of_gate, None)[0],
            "7 driver ended with exit code 3: round 3 was stopped by a gate [2 of 20] /logs/visplay-nano-r3-driver-7.log"
        );
        assert!(shown(&submission(vec![]), None)[0].starts_with("7 driver submitted ["));
    }

    #[test]
    fn a_drained_job_has_not_failed() {
        let drained = submission(vec![end("7", 75, "drained", false)]);
        let queue = queue([("7".into(), vec![queued("7", "FAILED", "NonZeroExitCode", 0)])]);
        assert!(shown(&drained, Some(&queue))[0].starts_with("7 driver ended: drained ["));
    }

    #[test]
    fn a_job_of_somebody_else_with_the_same_id_is_not_shown() {
        let stranger = QueuedJob { name: "backup".into(), ..queued("7", "RUNNING", "None", 0) };
        let queue = queue([("7".into(), vec![stranger])]);
        assert!(shown(&submission(vec![]), Some(&queue))[0].starts_with("7 driver ended; Slurm has forgotten it"));
    }

    #[test]
    fn a_job_that_will_never_start_is_marked() {
        let submission = submission(vec![]);
        let state = queued_state(&submission, &submission.jobs[0], &queued("7", "PENDING", "PartitionTimeLimit", 0));
        assert!(state.waits_for_ever && !state.is_over);
        let state = queued_state(&submission, &submission.jobs[0], &queued("7", "PENDING", "Priority", 0));
        assert!(!state.waits_for_ever);
    }

    #[test]
    fn a_store_without_submissions_asks_nobody() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(folder.path()).expect("a store");
        let states = jobs(&store, Some("nano")).expect("readable");
        assert!(states.jobs.is_empty() && states.note.is_none());
    }
}
