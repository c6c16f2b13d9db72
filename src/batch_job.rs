//! The job of a batch system that this process belongs to, from its environment.

use std::fmt;

use serde::{Deserialize, Serialize};

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
        assert_eq!(job(&[("PBS_JOBID", "8.head")]).expect("a job").to_string(), "pbs job 8.head");
    }
}
