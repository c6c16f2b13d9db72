//! Submitting a round: the plan of its jobs, the checks, and the calls of sbatch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};
use serde::Serialize;

use super::error::{ClusterError, Result};
use super::profile::ClusterProfile;
use super::reasons::{is_over, state_in_words};
use super::sbatch_options::{partitions, reserved_option};
use super::script::{JobKind, ScriptSettings, WorkerArray, script_path, split_workers, write_script};
use super::slurm::{self, QueuedJob};
use super::submission::{
    PIPELINE_FILE, StoredSubmission, Submission, SubmissionName, SubmittedJob, create, submissions, token_of,
    write_jobs,
};
use super::time_limit::TimeLimit;
use super::timed_command;
use crate::evolution::finished_round;
use crate::evolution::pipeline::Pipeline;
use crate::store::{ActionKey, Claim, ClaimOutcome, Process, Store, now_ms};

/// Time for which another submission of the same evolution is waited for. It is longer than sbatch
/// may take.
const LOCK_TIMEOUT: Duration = Duration::from_secs(150);

/// A round to submit.
#[derive(Debug, Clone, Copy)]
pub struct SubmitRequest<'a> {
    /// The store's folder, which may not exist yet.
    pub root: &'a Path,
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// The round.
    pub round: u32,
    /// The profile, with the settings of the command line.
    pub profile: &'a ClusterProfile,
    /// Further options of sbatch from the command line.
    pub flags: &'a [String],
}

/// A script of a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedJob {
    /// Name of the script's file.
    pub file: String,
    /// The job's work.
    pub kind: JobKind,
    /// The script.
    pub script: String,
}

/// The files and jobs of a submission.
#[derive(Debug, Clone)]
pub struct SubmissionPlan {
    /// The submission.
    pub name: SubmissionName,
    /// Its folder.
    pub folder: PathBuf,
    /// The folder of logs.
    pub logs: PathBuf,
    /// Text of the copy of the pipeline file.
    pub pipeline: String,
    /// The jobs, in the order in which they are submitted.
    pub jobs: Vec<PlannedJob>,
    token: String,
}

/// The outcome of a submission.
#[derive(Debug, Clone)]
pub enum SubmitOutcome {
    /// The jobs are in the queue.
    Submitted(Box<SubmissionPlan>, Vec<SubmittedJob>),
    /// The round is finished; nothing was submitted.
    Finished,
}

/// Plans a submission with this number; nothing is written.
///
/// # Errors
/// A setting cannot be used on this cluster.
pub fn plan_submission(request: &SubmitRequest<'_>, number: u32) -> Result<SubmissionPlan> {
    let SubmitRequest { pipeline, profile, round, flags, .. } = *request;
    let evolution = pipeline.evolution.as_str();
    let setting = |key: &str| {
        let key = key.to_owned();
        move |problem: String| ClusterError::Setting { key, problem }
    };
    if let Some((key, problem)) = profile.first_invalid_value() {
        return Err(setting(&format!("cluster.{key}"))(problem));
    }
    check_flags(flags)?;
    let name = SubmissionName { evolution: evolution.to_owned(), round, number };
    let root = absolute(request.root);
    let logs = root.join(&profile.logs);
    let folder = root.join("jobs").join(name.folder());
    let pipeline_copy = folder.join(PIPELINE_FILE);
    let program = program(profile).map_err(setting("cluster.program"))?;
    let pipeline = pipeline.portable_text()?;
    let token = token_of(&root.to_string_lossy(), &name);
    let logs_text = script_path(&logs, "the folder of logs").map_err(setting("cluster.logs"))?;
    if logs_text.contains('\\') {
        return Err(setting("cluster.logs")("Slurm gives `\\` in names of logs a meaning; use another folder".into()));
    }
    let submission = name.folder();
    let settings = ScriptSettings {
        profile,
        time: TimeLimit::parse(&profile.time).map_err(setting("cluster.time"))?,
        evolution,
        round,
        submission: &submission,
        token: &token,
        store: script_path(&root, "the store").map_err(setting("--store"))?,
        program: script_path(&program, "the program").map_err(setting("cluster.program"))?,
        pipeline: script_path(&pipeline_copy, "the store").map_err(setting("--store"))?,
        logs: logs_text,
        flags,
    };
    let judge = &profile.judge;
    let limit = judge.array_limit.min(slurm::max_array_size().unwrap_or(judge.array_limit));
    let arrays = split_workers(judge.count, judge.at_most_at_once, limit).map_err(setting("cluster.judge.count"))?;
    let is_single = arrays.len() == 1;
    let judges = arrays.into_iter().enumerate().map(|(i, array)| {
        let file = if is_single { "judge.sbatch".to_owned() } else { format!("judge-{}.sbatch", i + 1) };
        (file, JobKind::Judge(array))
    });
    let kinds = std::iter::once(("driver.sbatch".to_owned(), JobKind::Driver)).chain(judges);
    let jobs = kinds.map(|(file, kind)| PlannedJob { file, script: write_script(&settings, &kind), kind }).collect();
    Ok(SubmissionPlan { name, folder, logs, pipeline, jobs, token })
}

/// Returns the number of the next submission of a round.
///
/// # Errors
/// The store cannot be read.
pub fn next_number(store: &Store, evolution: &str, round: u32) -> Result<u32> {
    let all = submissions(store, Some(evolution))?;
    let numbers = all.iter().filter(|one| one.name.round == round).map(|one| one.name.number);
    Ok(numbers.max().unwrap_or(0) + 1)
}

/// Submits a round, unless it is finished.
///
/// # Errors
/// The round is under way, or the cluster refuses a job: then nothing stays in the queue.
pub fn submit(store: &Store, request: &SubmitRequest<'_>) -> Result<SubmitOutcome> {
    let SubmitRequest { pipeline, round, profile, flags, .. } = *request;
    let evolution = pipeline.evolution.as_str();
    let _lock = lock(store, evolution, round)?;
    if finished_round(store, evolution, round)?.is_some() {
        return Ok(SubmitOutcome::Finished);
    }
    check_not_under_way(store, evolution)?;
    let mut number = next_number(store, evolution, round)?;
    let mut plan = plan_submission(request, number)?;
    for job in &plan.jobs {
        slurm::test_script(&job.script)?;
    }
    check_time(profile, flags)?;
    prepare_logs(&plan.logs)?;
    // The lock makes this the only submission; a process that was suspended for so long that it
    // lost the lock finds its number taken.
    let cluster = slurm::cluster_name(slurm::QUESTION)?;
    while !create(store, &plan.name, &record(&plan, profile, &cluster))? {
        check_not_under_way(store, evolution)?;
        number += 1;
        plan = plan_submission(request, number)?;
    }
    store.put_job_file(&plan.name.file(PIPELINE_FILE), plan.pipeline.as_bytes(), false)?;
    for job in &plan.jobs {
        store.put_job_file(&plan.name.file(&job.file), job.script.as_bytes(), false)?;
    }
    let submitted = submit_jobs(store, &plan)?;
    Ok(SubmitOutcome::Submitted(Box::new(plan), submitted))
}

fn record(plan: &SubmissionPlan, profile: &ClusterProfile, cluster: &str) -> Submission {
    Submission {
        submitted_ms: now_ms(),
        submitter: Process::current(),
        token: plan.token.clone(),
        requeues: profile.requeues,
        cluster: cluster.to_owned(),
        logs: plan.logs.to_string_lossy().into_owned(),
    }
}

/// Submits the jobs. If one of them is refused, those before it are cancelled.
fn submit_jobs(store: &Store, plan: &SubmissionPlan) -> Result<Vec<SubmittedJob>> {
    let mut submitted: Vec<SubmittedJob> = Vec::new();
    for job in &plan.jobs {
        // Workers would find nothing to do before the round begins.
        let after = submitted.iter().find(|job| job.is_driver()).map(|job| job.id.clone());
        let id = check_newest(store, &plan.name).and_then(|()| slurm::submit_script(&job.script, after.as_deref()));
        let recorded = id.and_then(|id| {
            submitted.push(SubmittedJob { id, kind: job.kind.clone() });
            write_jobs(store, &plan.name, &submitted)
        });
        if let Err(e) = recorded {
            let ids: Vec<&str> = submitted.iter().map(|job| job.id.as_str()).collect();
            // The error that is returned says more than one of the cancellation.
            let _ = slurm::cancel(&ids);
            return Err(e);
        }
    }
    Ok(submitted)
}

/// Checks that no other process has taken the round over while this one was suspended.
fn check_newest(store: &Store, name: &SubmissionName) -> Result<()> {
    match next_number(store, &name.evolution, name.round)? == name.number + 1 {
        true => Ok(()),
        false => Err(under_way(name, "a newer submission".to_owned())),
    }
}

fn under_way(name: &SubmissionName, by: String) -> ClusterError {
    ClusterError::UnderWay { evolution: name.evolution.clone(), round: name.round, by }
}

/// Takes the lock of an evolution's submissions; a process that has ended loses it.
pub(super) fn lock(store: &Store, evolution: &str, round: u32) -> Result<Claim> {
    let key = ActionKey::of_lease("visplay 2026 lock of submissions", &[evolution.as_bytes()]);
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match store.claim(key, true)? {
            ClaimOutcome::Acquired(claim) => return Ok(claim),
            ClaimOutcome::HeldBy(Process { host, pid, .. }) if Instant::now() > deadline => {
                let by = format!("`visplay submit` or `visplay cancel` runs on {host} (process {pid})");
                return Err(ClusterError::UnderWay { evolution: evolution.to_owned(), round, by });
            }
            _ => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Checks that nobody runs a round of the evolution: neither a submission nor a process that was
/// started otherwise. The lock is held.
fn check_not_under_way(store: &Store, evolution: &str) -> Result<()> {
    let all = with_lost_jobs(store, submissions(store, Some(evolution))?)?;
    let drivers: Vec<&str> = all.iter().filter_map(StoredSubmission::driver).map(|job| job.id.as_str()).collect();
    let recent = &drivers[drivers.len().saturating_sub(20)..];
    for queued in slurm::jobs_with_ids(recent, slurm::QUESTION)?.into_iter().filter(|job| !is_over(&job.state)) {
        let is_it =
            |one: &&StoredSubmission| one.driver().is_some_and(|job| job.id == queued.base_id()) && one.owns(&queued);
        let Some(submission) = all.iter().find(is_it) else { continue };
        let workers: Vec<&str> =
            submission.jobs.iter().filter(|job| !job.is_driver()).map(|job| job.id.as_str()).collect();
        let workers = match workers.as_slice() {
            [] => String::new(),
            ids => format!(", judge workers: {}", ids.join(", ")),
        };
        let by = format!("job {} ({}){workers}", queued.id, state_in_words(&queued.state));
        return Err(under_way(&submission.name, by));
    }
    if let Some(newest) = all.last() {
        check_cluster(newest)?;
    }
    let is_ours = |id: &str| all.iter().flat_map(|one| &one.jobs).any(|job| id.split('_').next() == Some(&job.id));
    for note in store.other_workers(evolution)?.into_iter().filter(|note| note.command == "evolve-round") {
        // The jobs of submissions have ended, as Slurm says, even if the notes of killed ones
        // remain for a while.
        if note.job.as_ref().is_some_and(|job| job.system == "slurm" && is_ours(&job.id)) {
            continue;
        }
        let job = note.job.as_ref().map_or(String::new(), |job| format!(", {job}"));
        let by = format!("`visplay evolve-round` on {} (process {}{job})", note.process.host, note.process.pid);
        let round = note.round.max(1);
        return Err(ClusterError::UnderWay { evolution: evolution.to_owned(), round, by });
    }
    Ok(())
}

/// Finds the jobs of submissions that were killed between a call of sbatch and the record of its
/// job, and records them. The lock is held, so that no submission is in progress.
pub(super) fn with_lost_jobs(store: &Store, mut all: Vec<StoredSubmission>) -> Result<Vec<StoredSubmission>> {
    // Only the newest submission of an evolution can have lost its jobs: it is looked at before the
    // next one is made.
    let mut newest: Vec<&mut StoredSubmission> = Vec::new();
    for submission in all.iter_mut().rev() {
        if newest.iter().all(|one| one.name.evolution != submission.name.evolution) {
            newest.push(submission);
        }
    }
    for submission in newest.into_iter().filter(|one| one.jobs.len() < one.scripts.max(1)) {
        let queued = slurm::jobs_with_token(&submission.record.token)?;
        let lost = lost_jobs(&submission.jobs, &queued);
        if !lost.is_empty() {
            submission.jobs.extend(lost);
            write_jobs(store, &submission.name, &submission.jobs)?;
        }
    }
    Ok(all)
}

/// Returns the jobs of a submission that are in the queue and not recorded, in the order of their
/// ids.
fn lost_jobs(recorded: &[SubmittedJob], queued: &[QueuedJob]) -> Vec<SubmittedJob> {
    let mut arrays: BTreeMap<(usize, &str), Vec<&QueuedJob>> = BTreeMap::new();
    for job in queued.iter().filter(|job| recorded.iter().all(|one| one.id != job.base_id())) {
        arrays.entry((job.base_id().len(), job.base_id())).or_default().push(job);
    }
    let jobs = arrays.into_iter().map(|((_, id), tasks)| {
        let array = WorkerArray { count: tasks.iter().map(|task| task.tasks()).sum(), at_most_at_once: 0 };
        let is_judge = tasks.iter().any(|task| task.name.ends_with("-judge"));
        let kind = if is_judge { JobKind::Judge(array) } else { JobKind::Driver };
        SubmittedJob { id: id.to_owned(), kind }
    });
    jobs.collect()
}

/// Checks that the newest submission was not made to another cluster, where its jobs may still run.
pub(super) fn check_cluster(newest: &StoredSubmission) -> Result<()> {
    let cluster = slurm::cluster_name(slurm::QUESTION)?;
    if !newest.may_run_elsewhere(&cluster) {
        return Ok(());
    }
    let ids: Vec<&str> = newest.jobs.iter().map(|job| job.id.as_str()).collect();
    let other = &newest.record.cluster;
    let by = format!("jobs {} of the cluster {other}; `visplay cancel` on that cluster ends them", ids.join(", "));
    Err(under_way(&newest.name, by))
}

/// Checks that a partition of the jobs allows the time: sbatch accepts a longer one, and the job
/// waits for ever.
fn check_time(profile: &ClusterProfile, flags: &[String]) -> Result<()> {
    let Ok(time) = TimeLimit::parse(&profile.time) else { return Ok(()) };
    let words: Vec<String> = profile.extra.iter().chain(flags).cloned().collect();
    let mut longest: Option<TimeLimit> = None;
    for partition in partitions(&words).unwrap_or_else(|| profile.partition.split(',').map(str::to_owned).collect()) {
        let limit = slurm::max_time_of_partition(&partition)?;
        // A partition without a known limit allows every time.
        let Some(Ok(limit)) = limit.as_deref().map(TimeLimit::parse) else { return Ok(()) };
        longest = longest.max(Some(limit));
    }
    match longest {
        Some(limit) if time > limit => {
            let problem = format!("{time} is longer than the partition allows, {limit}; the job would wait for ever");
            Err(ClusterError::Setting { key: "cluster.time".to_owned(), problem })
        }
        _ => Ok(()),
    }
}

fn check_flags(flags: &[String]) -> Result<()> {
    let failed = |problem: String| Err(ClusterError::Setting { key: "--".to_owned(), problem });
    if let Some(problem) = reserved_option(flags) {
        return failed(problem);
    }
    if let Some(flag) = flags.iter().find(|flag| flag.contains(|c: char| c.is_control())) {
        return failed(format!("{} has a control character, such as the end of a line", flag.escape_debug()));
    }
    match flags.first() {
        Some(first) if !first.starts_with('-') => failed(format!("`{first}` is no option of sbatch")),
        _ => Ok(()),
    }
}

/// Creates the folder of logs and checks that files can be created in it: without it, jobs fail
/// and no message is written anywhere.
fn prepare_logs(folder: &Path) -> Result<()> {
    let failed = |e: std::io::Error| ClusterError::Setting {
        key: "cluster.logs".to_owned(),
        problem: format!("{} cannot be used: {e}", folder.display()),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|e| failed(e.into()))
}

/// Returns the program that nodes run.
fn program(profile: &ClusterProfile) -> Result<PathBuf, String> {
    if profile.program.as_os_str().is_empty() {
        return std::env::current_exe().map_err(|e| format!("the path of this program is unknown ({e}); set the key"));
    }
    let program = &profile.program;
    if !program.is_absolute() {
        return Err(format!("`{}` is not an absolute path", program.display()));
    }
    // A program that only nodes have cannot be checked here.
    if let (true, Some(text)) = (program.exists(), program.to_str()) {
        let answer = timed_command::run(text, &["--version"], "", Duration::from_secs(20));
        let answer = answer.map_err(|e| e.to_string())?;
        if !answer.success || !answer.stdout.starts_with("visplay ") {
            return Err(format!("`{text} --version` does not print the version of visplay"));
        }
    }
    Ok(program.clone())
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_were_not_recorded_are_found_with_their_kind() {
        let queued = |id: &str, name: &str| QueuedJob { id: id.into(), name: name.into(), ..QueuedJob::default() };
        let queue = [
            queued("100_[2-3]", "visplay-nano-r3-judge"),
            queued("100_0", "visplay-nano-r3-judge"),
            queued("100_1", "visplay-nano-r3-judge"),
            queued("99", "visplay-nano-r3-driver"),
        ];
        let driver = SubmittedJob { id: "99".into(), kind: JobKind::Driver };
        let judges =
            SubmittedJob { id: "100".into(), kind: JobKind::Judge(WorkerArray { count: 4, at_most_at_once: 0 }) };
        assert_eq!(lost_jobs(&[], &queue), [driver.clone(), judges.clone()]);
        assert_eq!(lost_jobs(std::slice::from_ref(&driver), &queue), std::slice::from_ref(&judges));
        assert_eq!(lost_jobs(&[driver, judges], &queue), []);
    }
}
