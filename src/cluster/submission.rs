//! Submissions of rounds, and their records in the store.
//!
//! A submission has a folder `jobs/<evolution>/round-NNNN/submit-NNNNNN/`: the copy of the pipeline
//! file, the scripts, `submission.json` (create-only, written before the first job is submitted),
//! `jobs.json` (the ids of its jobs), `ended-<job>.json` for each job that has ended or was
//! requeued, and `cancelled.json` (create-only) once somebody cancelled it.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Result;
use super::script::JobKind;
use super::slurm::QueuedJob;
use crate::canonical::to_canonical;
use crate::ids::Digest;
use crate::store::{Process, Store, StoreError, now_ms};

/// Name of the copy of the pipeline file in a submission's folder.
pub const PIPELINE_FILE: &str = "pipeline.toml";
/// Exit code of a job whose device cannot be used.
const UNUSABLE_NODE: u8 = 6;
const RECORD: &str = "submission.json";
const JOBS: &str = "jobs.json";
const CANCELLATION: &str = "cancelled.json";

/// Address of a submission, from which the names of its files follow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubmissionName {
    /// The evolution.
    pub evolution: String,
    /// The round.
    pub round: u32,
    /// Number of the submission among those of the round, from 1.
    pub number: u32,
}

impl SubmissionName {
    /// Returns the name of the submission's folder below `jobs/`.
    pub fn folder(&self) -> String {
        format!("{}/round-{:04}/submit-{:06}", self.evolution, self.round, self.number)
    }

    /// Returns the name of one of its files below `jobs/`.
    pub fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.folder())
    }

    /// Parses a name as [`folder`](Self::folder) returns it, or that of a file in such a folder.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('/');
        let evolution = parts.next()?.to_owned();
        let round = parts.next()?.strip_prefix("round-")?.parse().ok()?;
        let number = parts.next()?.strip_prefix("submit-")?.parse().ok()?;
        Some(Self { evolution, round, number })
    }
}

/// The record of a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// When it was made, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// The process that made it.
    pub submitter: Process,
    /// Word in the comments of its jobs.
    pub token: String,
    /// How often each of its jobs may be requeued at its time limit.
    pub requeues: u32,
    /// Name of the cluster that it was submitted to; empty if it is not known.
    #[serde(default)]
    pub cluster: String,
    /// The folder of its logs.
    pub logs: String,
}

/// A job of a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmittedJob {
    /// Id of the job or array.
    pub id: String,
    /// Its work.
    pub kind: JobKind,
}

impl SubmittedJob {
    /// Returns whether the job runs the round itself.
    pub fn is_driver(&self) -> bool {
        self.kind == JobKind::Driver
    }
}

/// The end of a job, or of one of its runs, as the program in it recorded it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// Id of the job, with the number of its task: `4711_3`.
    pub job: String,
    /// Its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Exit code.
    pub code: u8,
    /// The reason, in words; empty if the work was done.
    pub message: String,
    /// How often the job had been requeued.
    pub restarts: u32,
    /// How often the job requeued itself at its time limit, with this end.
    #[serde(default)]
    pub requeues: u32,
    /// Whether the job was requeued.
    pub is_requeued: bool,
    /// When it ended, in milliseconds since 1970.
    pub ended_ms: u64,
}

/// A submission with all of its records.
#[derive(Debug, Clone)]
pub struct StoredSubmission {
    /// Its name.
    pub name: SubmissionName,
    /// Its record.
    pub record: Submission,
    /// Its jobs, in the order in which they were submitted.
    pub jobs: Vec<SubmittedJob>,
    /// Ends of its jobs, by job.
    pub ends: BTreeMap<String, JobEnd>,
    /// Number of its scripts, one for each job.
    pub scripts: usize,
    /// Whether somebody cancelled it.
    pub is_cancelled: bool,
}

impl StoredSubmission {
    /// Returns the job that runs the round; `None` if none was submitted.
    pub fn driver(&self) -> Option<&SubmittedJob> {
        self.jobs.iter().find(|job| job.is_driver())
    }

    /// Returns whether a job of the queue is one of this submission: another job may have its id
    /// after the cluster was set up anew, or on another cluster.
    pub fn owns(&self, job: &QueuedJob) -> bool {
        let SubmissionName { evolution, round, .. } = &self.name;
        match job.comment.starts_with("visplay:") {
            true => job.comment.ends_with(&format!(":{}", self.record.token)),
            // Some clusters replace comments.
            false => job.name.starts_with(&format!("visplay-{evolution}-r{round}-")),
        }
    }

    /// Returns whether a job of the queue is recorded as one of this submission, and is it.
    pub fn has_job(&self, job: &QueuedJob) -> bool {
        self.jobs.iter().any(|one| one.id == job.base_id()) && self.owns(job)
    }

    /// Returns whether it was submitted to another cluster than this one, and may have jobs there.
    pub fn may_run_elsewhere(&self, cluster: &str) -> bool {
        let has_ended = self.driver().and_then(|job| self.ends.get(&job.id)).is_some_and(|end| !end.is_requeued);
        let is_elsewhere = !self.record.cluster.is_empty() && self.record.cluster != cluster;
        is_elsewhere && !self.is_cancelled && !has_ended && !self.jobs.is_empty()
    }
}

/// Reads the submissions of an evolution, or of all of them: those of an evolution by round and
/// number, and the evolution that was submitted last comes last.
///
/// # Errors
/// The store cannot be read, or a record is damaged.
pub fn submissions(store: &Store, evolution: Option<&str>) -> Result<Vec<StoredSubmission>> {
    let mut files: BTreeMap<SubmissionName, Vec<String>> = BTreeMap::new();
    for entry in store.job_files(evolution.unwrap_or_default())? {
        let Some(name) = entry.name.strip_prefix("jobs/") else { continue };
        if let (Some(submission), Some((_, file))) = (SubmissionName::parse(name), name.rsplit_once('/')) {
            files.entry(submission).or_default().push(file.to_owned());
        }
    }
    let mut all = Vec::new();
    for (name, files) in files {
        let Some(record) = read(store, &name.file(RECORD))? else { continue };
        let jobs = read(store, &name.file(JOBS))?.unwrap_or_default();
        let mut ends = BTreeMap::new();
        for file in files.iter().filter(|file| file.starts_with("ended-")) {
            if let Some(end) = read::<JobEnd>(store, &name.file(file))? {
                ends.insert(end.job.clone(), end);
            }
        }
        let scripts = files.iter().filter(|file| file.ends_with(".sbatch")).count();
        let is_cancelled = files.iter().any(|file| file == CANCELLATION);
        all.push(StoredSubmission { name, record, jobs, ends, scripts, is_cancelled });
    }
    // Clocks of machines may differ, numbers do not.
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for one in &all {
        let time = last.entry(one.name.evolution.clone()).or_default();
        *time = one.record.submitted_ms.max(*time);
    }
    all.sort_by_key(|one| (last.get(&one.name.evolution).copied(), one.name.clone()));
    Ok(all)
}

/// Returns whether a submission was cancelled.
///
/// # Errors
/// The store cannot be read.
pub fn is_cancelled(store: &Store, name: &SubmissionName) -> Result<bool> {
    Ok(store.read_job_file(&name.file(CANCELLATION))?.is_some())
}

/// Notes that a submission was cancelled, so that none of its jobs requeues itself.
///
/// # Errors
/// The store cannot be written to.
pub fn write_cancellation(store: &Store, name: &SubmissionName) -> Result<()> {
    let note = encode(&serde_json::json!({"cancelled_ms": now_ms()}))?;
    store.put_job_file(&name.file(CANCELLATION), &note, true)?;
    Ok(())
}

/// Reads the last end of a job; `None` if it has not ended yet.
///
/// # Errors
/// The store cannot be read.
pub fn last_end(store: &Store, name: &SubmissionName, job: &str) -> Result<Option<JobEnd>> {
    Ok(read(store, &end_file(name, job))?)
}

fn end_file(name: &SubmissionName, job: &str) -> String {
    name.file(&format!("ended-{job}.json"))
}

/// Returns the nodes on which a job of the store found its device unusable (exit code 6) within the
/// last day.
///
/// # Errors
/// The store cannot be read.
pub fn unusable_nodes(store: &Store) -> Result<Vec<String>> {
    let since = now_ms().saturating_sub(24 * 3600 * 1000);
    let all = submissions(store, None)?;
    let ends = all.iter().flat_map(|one| one.ends.values());
    let unusable = ends.filter(|end| end.code == UNUSABLE_NODE && end.ended_ms >= since);
    let nodes: BTreeSet<String> = unusable.filter_map(|end| end.node.clone()).collect();
    Ok(nodes.into_iter().collect())
}

/// Writes the record of a new submission; `false` if another process took the name.
///
/// # Errors
/// The store cannot be written to.
pub fn create(store: &Store, name: &SubmissionName, record: &Submission) -> Result<bool> {
    Ok(store.put_job_file(&name.file(RECORD), &encode(record)?, true)?)
}

/// Writes the jobs of a submission.
///
/// # Errors
/// The store cannot be written to.
pub fn write_jobs(store: &Store, name: &SubmissionName, jobs: &[SubmittedJob]) -> Result<()> {
    store.put_job_file(&name.file(JOBS), &encode(jobs)?, false)?;
    Ok(())
}

/// Writes the end of a job.
///
/// # Errors
/// The store cannot be written to.
pub fn write_end(store: &Store, name: &SubmissionName, end: &JobEnd) -> Result<()> {
    store.put_job_file(&end_file(name, &end.job), &encode(end)?, false)?;
    Ok(())
}

/// Returns the word by which the jobs of a submission are found in the queue. Stores on one
/// cluster may have evolutions of the same name.
pub fn token_of(store: &str, name: &SubmissionName) -> String {
    let digest = Digest::derive("visplay 2026 submission", &[store.as_bytes(), name.folder().as_bytes()]);
    digest.to_string()[..8].to_owned()
}

fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = to_canonical(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn read<T: DeserializeOwned>(store: &Store, name: &str) -> Result<Option<T>, StoreError> {
    let Some(bytes) = store.read_job_file(name)? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|e| StoreError::damaged(format!("jobs/{name}"), format!("it is not as written: {e}")))
}

#[cfg(test)]
mod tests {
    use super::super::script::WorkerArray;
    use super::*;

    fn record(submitted_ms: u64) -> Submission {
        Submission {
            submitted_ms,
            submitter: Process::current(),
            token: "0123abcd".into(),
            requeues: 20,
            cluster: "lab".into(),
            logs: "/logs".into(),
        }
    }

    #[test]
    fn a_submission_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(folder.path()).expect("a store");
        let name = |round, number| SubmissionName { evolution: "nano".into(), round, number };
        assert_eq!(SubmissionName::parse(&name(3, 1).folder()), Some(name(3, 1)));
        assert_eq!(SubmissionName::parse("nano/round-0003/host-7/pipeline.toml"), None);
        assert!(create(&store, &name(3, 1), &record(2)).expect("written"));
        assert!(!create(&store, &name(3, 1), &record(3)).expect("the name is taken"));
        assert!(create(&store, &name(4, 1), &record(1)).expect("written"));
        let array = WorkerArray { count: 3, at_most_at_once: 0 };
        let jobs = [
            SubmittedJob { id: "7".into(), kind: JobKind::Driver },
            SubmittedJob { id: "8".into(), kind: JobKind::Judge(array) },
        ];
        write_jobs(&store, &name(3, 1), &jobs).expect("written");
        let end = JobEnd {
            job: "8_2".into(),
            node: None,
            code: 75,
            message: "drained".into(),
            restarts: 1,
            requeues: 1,
            is_requeued: true,
            ended_ms: 5,
        };
        write_end(&store, &name(3, 1), &end).expect("written");
        assert_eq!(last_end(&store, &name(3, 1), "8_2").expect("readable"), Some(end.clone()));
        assert_eq!(last_end(&store, &name(3, 1), "8_3").expect("readable"), None);
        for _ in 0..2 {
            write_cancellation(&store, &name(4, 1)).expect("written");
        }
        let cancelled = |round| is_cancelled(&store, &name(round, 1)).expect("readable");
        assert!(cancelled(4) && !cancelled(3));
        let node = |job: &str, node: &str, ended_ms| JobEnd {
            job: job.into(),
            node: Some(node.into()),
            code: UNUSABLE_NODE,
            ended_ms,
            ..end.clone()
        };
        for bad in [node("8_0", "n7", now_ms()), node("8_1", "n8", 5)] {
            write_end(&store, &name(3, 1), &bad).expect("written");
        }
        assert_eq!(unusable_nodes(&store).expect("readable"), ["n7"]);
        let all = submissions(&store, Some("nano")).expect("readable");
        assert_eq!(all.iter().map(|one| one.name.clone()).collect::<Vec<_>>(), [name(3, 1), name(4, 1)]);
        assert_eq!((all[0].driver(), all[0].jobs.len(), &all[0].ends["8_2"]), (Some(&jobs[0]), 2, &end));
        assert!(all[1].is_cancelled && !all[0].is_cancelled);
        assert!(all[0].may_run_elsewhere("other") && !all[0].may_run_elsewhere("lab"));
        assert!(!all[1].may_run_elsewhere("other"), "it was cancelled");
        let queued = |comment: &str, name: &str| QueuedJob {
            id: "8_3".into(),
            comment: comment.into(),
            name: name.into(),
            ..QueuedJob::default()
        };
        assert!(all[0].has_job(&queued("visplay:nano:r3:0123abcd", "x")));
        assert!(!all[0].has_job(&queued("visplay:nano:r3:ffffffff", "visplay-nano-r3-judge")));
        assert!(all[0].has_job(&queued("site", "visplay-nano-r3-judge")));
        assert!(!all[0].has_job(&queued("(null)", "backup")));
        assert!(!all[1].has_job(&queued("visplay:nano:r3:0123abcd", "x")), "it has no such job");
        assert!(submissions(&store, Some("other")).expect("readable").is_empty());
        assert_eq!(submissions(&store, None).expect("readable").len(), 2);
        let report = store.verify(crate::store::VerifyDepth::Full, false).expect("no error");
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }

    #[test]
    fn tokens_differ_between_stores_and_submissions() {
        let name = |number| SubmissionName { evolution: "nano".into(), round: 1, number };
        let tokens = [token_of("/a", &name(1)), token_of("/b", &name(1)), token_of("/a", &name(2))];
        assert!(tokens[0] != tokens[1] && tokens[0] != tokens[2]);
        assert_eq!(tokens[0].len(), 8);
    }
}
