//! Slurm's commands. Each call has a time limit, and none needs the accounting database.

use std::time::Duration;

use super::error::{ClusterError, Result};
use super::refusals::{is_outage, key_of_refusal};
use super::timed_command::{self, CommandOutput};

/// Time that a question to the controller may take.
pub const QUESTION: Duration = Duration::from_secs(20);
/// Time that a question may take whose answer somebody only looks at.
pub const GLANCE: Duration = Duration::from_secs(3);
/// Time that a submission or a cancellation may take. A busy controller takes its time.
const REQUEST: Duration = Duration::from_secs(60);

/// A job, or the tasks of an array that have not started, as `squeue` lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueuedJob {
    /// Id, for tasks of an array with their numbers: `4711`, `4711_3`, `4711_[4-7%2]`.
    pub id: String,
    /// State, such as `PENDING`.
    pub state: String,
    /// Reason, such as `Priority` or `None`.
    pub reason: String,
    /// Time of the start, or before it the expected one, as `2026-11-30T08:31:05` or `N/A`.
    pub start: String,
    /// How often it was requeued.
    pub restarts: u32,
    /// Its nodes.
    pub nodes: String,
    /// Its name.
    pub name: String,
    /// Its comment.
    pub comment: String,
}

impl QueuedJob {
    /// Returns the id of the job or array: `4711` of `4711_3`.
    pub fn base_id(&self) -> &str {
        self.id.split('_').next().unwrap_or_default()
    }

    /// Returns the number of an array's tasks that this is: 1 for `4711_3`, 5 for `4711_[0,4-7%2]`.
    pub fn tasks(&self) -> u32 {
        let listed = self.id.split_once('[').map(|(_, list)| list.split(['%', ']']).next().unwrap_or_default());
        let count = |part: &str| match part.split_once('-') {
            Some((first, last)) => Some(last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)? + 1),
            None => Some(1),
        };
        listed.map_or(1, |list| list.split(',').filter_map(count).sum())
    }
}

/// Checks a script without submitting it: `sbatch --test-only`.
///
/// # Errors
/// The cluster would refuse it.
pub fn test_script(script: &str) -> Result<()> {
    sbatch(&["--test-only"], script).map(drop)
}

/// Submits a script, and returns the job's id. With `after`, the job waits until that one started.
///
/// # Errors
/// The cluster refused it.
pub fn submit_script(script: &str, after: Option<&str>) -> Result<String> {
    let dependency = after.map(|id| format!("--dependency=after:{id}"));
    let arguments: Vec<&str> = std::iter::once("--parsable").chain(dependency.as_deref()).collect();
    let output = sbatch(&arguments, script)?;
    // A federation adds `;` and the cluster's name.
    let id = output.stdout.lines().last().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) {
        true => Ok(id.to_owned()),
        false => Err(ClusterError::Failed {
            command: "sbatch --parsable".to_owned(),
            message: format!("it printed no job id, but `{}`", output.stdout.trim()),
        }),
    }
}

fn sbatch(arguments: &[&str], script: &str) -> Result<CommandOutput> {
    let output = timed_command::run("sbatch", arguments, script, REQUEST)?;
    if output.success {
        return Ok(output);
    }
    let command = format!("sbatch {}", arguments.join(" "));
    let message = message_of(&output);
    match is_outage(&message) {
        true => Err(ClusterError::Failed { command, message }),
        false => Err(ClusterError::Refused { command, key: key_of_refusal(&message), message }),
    }
}

/// Columns of [`QueuedJob`], each with a width and a separator; squeue cuts values at the width.
const COLUMNS: &str =
    "JobArrayID:100|,State:32|,Reason:200|,StartTime:32|,RestartCnt:8|,NodeList:200|,Name:300|,Comment:300|";

/// Returns those of these jobs that Slurm still knows; it forgets jobs some minutes after their
/// end.
///
/// # Errors
/// The controller does not answer.
pub fn jobs_with_ids(ids: &[&str], timeout: Duration) -> Result<Vec<QueuedJob>> {
    match ids {
        [] => Ok(Vec::new()),
        ids => squeue(&format!("--jobs={}", ids.join(",")), timeout),
    }
}

/// Returns this user's jobs whose comment ends with a token.
///
/// # Errors
/// The controller does not answer.
pub fn jobs_with_token(token: &str) -> Result<Vec<QueuedJob>> {
    let user = rustix::process::getuid().as_raw().to_string();
    let jobs = squeue(&format!("--user={user}"), QUESTION)?;
    Ok(jobs.into_iter().filter(|job| job.comment.ends_with(&format!(":{token}"))).collect())
}

fn squeue(filter: &str, timeout: Duration) -> Result<Vec<QueuedJob>> {
    let arguments = ["--noheader", "--states=all", filter, "-O", COLUMNS];
    let output = timed_command::run("squeue", &arguments, "", timeout)?;
    let message = message_of(&output);
    if output.success {
        return Ok(output.stdout.lines().filter_map(parse_job).collect());
    }
    // The answer for a single job that it has forgotten.
    match message.contains("Invalid job id") {
        true => Ok(Vec::new()),
        false => Err(ClusterError::Failed { command: "squeue".to_owned(), message }),
    }
}

fn parse_job(line: &str) -> Option<QueuedJob> {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let [id, state, reason, start, restarts, nodes, name, comment, ..] = fields.as_slice() else { return None };
    Some(QueuedJob {
        id: (*id).to_owned(),
        state: (*state).to_owned(),
        reason: (*reason).to_owned(),
        start: (*start).to_owned(),
        restarts: restarts.parse().unwrap_or(0),
        nodes: (*nodes).to_owned(),
        name: (*name).to_owned(),
        comment: (*comment).to_owned(),
    })
}

/// Cancels jobs. Jobs that have ended are no error.
///
/// # Errors
/// The controller refuses, or does not answer.
pub fn cancel(ids: &[&str]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let output = timed_command::run("scancel", &[&["--quiet"][..], ids].concat(), "", REQUEST)?;
    succeeded("scancel", &output)
}

/// Cancels those of these jobs, and tasks of arrays, that have not started.
///
/// # Errors
/// The controller refuses, or does not answer.
pub fn cancel_pending(ids: &[&str]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let output = timed_command::run("scancel", &[&["--quiet", "--state=PENDING"][..], ids].concat(), "", QUESTION)?;
    succeeded("scancel", &output)
}

/// Requeues a running job, which ends its processes.
///
/// # Errors
/// The controller refuses, or does not answer.
pub fn requeue(id: &str) -> Result<()> {
    let output = timed_command::run("scontrol", &["requeue", id], "", REQUEST)?;
    succeeded("scontrol requeue", &output)
}

/// Returns the maximum number of tasks in an array; 0 if arrays are switched off.
///
/// # Errors
/// The controller does not answer.
pub fn max_array_size() -> Result<u32> {
    let size = configured("MaxArraySize", QUESTION)?;
    size.parse().map_err(|_| ClusterError::Failed {
        command: "scontrol show config".to_owned(),
        message: format!("MaxArraySize is `{size}`"),
    })
}

/// Returns the cluster's name.
///
/// # Errors
/// The controller does not answer.
pub fn cluster_name(timeout: Duration) -> Result<String> {
    configured("ClusterName", timeout)
}

/// Returns a value of the cluster's configuration.
fn configured(key: &str, timeout: Duration) -> Result<String> {
    let output = timed_command::run("scontrol", &["show", "config"], "", timeout)?;
    succeeded("scontrol show config", &output)?;
    let value = |line: &str| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    };
    output.stdout.lines().find_map(value).ok_or_else(|| ClusterError::Failed {
        command: "scontrol show config".to_owned(),
        message: format!("it shows no {key}"),
    })
}

/// Returns the longest time of a partition in Slurm's notation, or of the default one without a
/// name; `None` if it has no limit or the controller does not tell.
///
/// # Errors
/// The controller does not answer.
pub fn max_time_of_partition(name: &str) -> Result<Option<String>> {
    let output = timed_command::run("scontrol", &["show", "partition", "-o"], "", QUESTION)?;
    succeeded("scontrol show partition", &output)?;
    Ok(output.stdout.lines().find_map(|line| {
        let field = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let is_it =
            if name.is_empty() { field("Default") == Some("YES") } else { field("PartitionName") == Some(name) };
        field("MaxTime").filter(|time| is_it && *time != "UNLIMITED").map(str::to_owned)
    }))
}

fn succeeded(command: &str, output: &CommandOutput) -> Result<()> {
    match output.success {
        true => Ok(()),
        false => Err(ClusterError::Failed { command: command.to_owned(), message: message_of(output) }),
    }
}

/// Returns the messages of a command in one line.
fn message_of(output: &CommandOutput) -> String {
    let lines = output.stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.map(|line| line.strip_prefix("sbatch: error: ").unwrap_or(line)).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_squeue_is_read() {
        let line = "4711_[1-3%2]   |PENDING   |ReqNodeNotAvail, UnavailableNodes:n1  |N/A  |2  |     |visplay-E-r3-judge  |visplay:E:r3:0a  |";
        let job = parse_job(line).expect("a job");
        assert_eq!((job.id.as_str(), job.base_id(), job.state.as_str()), ("4711_[1-3%2]", "4711", "PENDING"));
        assert_eq!((job.restarts, job.nodes.as_str(), job.comment.as_str()), (2, "", "visplay:E:r3:0a"));
        assert_eq!((job.name.as_str(), job.tasks()), ("visplay-E-r3-judge", 3));
        assert_eq!(job.reason, "ReqNodeNotAvail, UnavailableNodes:n1");
        assert_eq!(parse_job("slurm is busy"), None);
    }

    #[test]
    fn tasks_of_an_array_are_counted() {
        for (id, tasks) in [("7", 1), ("7_3", 1), ("7_[4-7%2]", 4), ("7_[0,2,5-6]", 4), ("7_[3]", 1)] {
            assert_eq!(QueuedJob { id: id.into(), ..QueuedJob::default() }.tasks(), tasks, "{id}");
        }
    }

    #[test]
    fn messages_are_one_line() {
        let output = CommandOutput {
            success: false,
            stdout: String::new(),
            stderr: "sbatch: error: invalid partition specified: nope\nallocation failure: Invalid partition name specified\n"
                .into(),
        };
        assert_eq!(
            message_of(&output),
            "invalid partition specified: nope; allocation failure: Invalid partition name specified"
        );
    }
}
