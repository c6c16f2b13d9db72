//! The job of a batch system that this process belongs to, from its environment.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Environment variable with the time at which the job's time limit ends it, in seconds since 1970.
/// Scripts of `visplay submit` set it, by the clock of the node.
pub const JOB_END_VARIABLE: &str = "VISPLAY_JOB_END";

/// A job of a batch system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchJob {
    /// The batch system: `slurm`, `pbs`, `lsf` or `sge`.
    pub system: String,
    /// Id of the job, for Slurm arrays the id of the array and the task: `4711_3`.
    pub id: String,
    /// Name of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How often the job was requeued.
    #[serde(default)]
    pub restarts: u32,
}

impl BatchJob {
    /// Returns the job of this process; `None` outside of a batch system.
    pub fn current() -> Option<Self> {
        Self::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Option<Self> {
        if let Some(id) = get("SLURM_JOB_ID") {
            let id = match (get("SLURM_ARRAY_JOB_ID"), get("SLURM_ARRAY_TASK_ID")) {
                (Some(array), Some(task)) => format!("{array}_{task}"),
                _ => id,
            };
            let restarts = get("SLURM_RESTART_COUNT").and_then(|n| n.parse().ok()).unwrap_or(0);
            return Some(Self { system: "slurm".into(), id, node: get("SLURMD_NODENAME"), restarts });
        }
        let others = [("pbs", "PBS_JOBID"), ("lsf", "LSB_JOBID"), ("sge", "JOB_ID")];
        let (system, id) = others.into_iter().find_map(|(system, name)| Some((system, get(name)?)))?;
        Some(Self { system: system.into(), id, node: None, restarts: 0 })
    }
}

/// Returns the time at which this process's job reaches its time limit; `None` if it is not known.
pub fn job_end() -> Option<SystemTime> {
    job_end_from(|name| std::env::var(name).ok())
}

fn job_end_from(get: impl Fn(&str) -> Option<String>) -> Option<SystemTime> {
    // Slurm sets its variable only from version 23.02 on.
    let seconds = [JOB_END_VARIABLE, "SLURM_JOB_END_TIME"].into_iter().find_map(|name| get(name)?.parse().ok())?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

impl fmt::Display for BatchJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} job {}", self.system, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(variables: &[(&str, &str)]) -> Option<BatchJob> {
        BatchJob::from_variables(|name| Some(variables.iter().find(|(n, _)| *n == name)?.1.to_owned()))
    }

    #[test]
    fn a_job_is_named_as_its_batch_system_names_it() {
        assert_eq!(job(&[]), None);
        let task = [("SLURM_JOB_ID", "4712"), ("SLURM_ARRAY_JOB_ID", "4711"), ("SLURM_ARRAY_TASK_ID", "3")];
        let found = job(&[&task[..], &[("SLURMD_NODENAME", "n1"), ("SLURM_RESTART_COUNT", "2")]].concat());
        let found = found.expect("a job");
        assert_eq!(
            (found.to_string().as_str(), found.node.as_deref(), found.restarts),
            ("slurm job 4711_3", Some("n1"), 2)
        );
        assert_eq!(job(&[("SLURM_JOB_ID", "7")]).expect("a job").id, "7");
        let end = |name: &'static str, value: &'static str| job_end_from(|n| (n == name).then(|| value.to_owned()));
        let expected = UNIX_EPOCH.checked_add(Duration::from_secs(1_800_000_000));
        assert_eq!(end("SLURM_JOB_END_TIME", "1800000000"), expected);
        assert_eq!(end(JOB_END_VARIABLE, "1800000000"), expected);
        assert_eq!((end(JOB_END_VARIABLE, ""), end("SLURM_JOB_ID", "7")), (None, None));
        assert_eq!(job(&[("PBS_JOBID", "8.head")]).expect("a job").to_string(), "pbs job 8.head");
    }
}
