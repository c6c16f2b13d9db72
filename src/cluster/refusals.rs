//! The key of the profile that caused a refusal of Slurm.

/// Messages of sbatch, in lower case, with the keys that cause them. The first that matches counts.
const CAUSES: [(&str, &str); 19] = [
    ("invalid partition", "cluster.partition"),
    ("invalid account or account/partition combination", "cluster.account (or cluster.partition)"),
    ("invalid account", "cluster.account"),
    ("invalid qos", "cluster.qos"),
    ("invalid feature", "cluster.constraint"),
    ("invalid node name", "cluster.exclude"),
    ("reservation", "cluster.reservation"),
    ("memory specification", "cluster.memory_per_worker"),
    ("invalid --mem", "cluster.memory_per_worker"),
    ("invalid generic resource", "cluster.gpus, cluster.gpu_type"),
    ("--gpus-per-task", "cluster.gpus"),
    ("cpu count", "cluster.cpus_per_worker"),
    ("job array", "cluster.judge.array_limit"),
    ("time limit", "cluster.time"),
    ("--time specification", "cluster.time"),
    ("unrecognized option", "cluster.extra, or the flags after --"),
    ("invalid option", "cluster.extra, or the flags after --"),
    (
        "requested node configuration is not available",
        "cluster.gpus, cluster.gpu_type, cluster.cpus_per_worker or cluster.memory_per_worker",
    ),
    ("accounting/qos policy", "cluster.account, cluster.qos, or a limit of theirs"),
];

/// Returns the key that caused a refusal, as far as the message tells.
pub fn key_of_refusal(message: &str) -> Option<&'static str> {
    let message = message.to_lowercase();
    CAUSES.iter().find(|(text, _)| message.contains(text)).map(|(_, key)| *key)
}

/// Returns whether the message says that the controller could not be asked, so that the request
/// itself may be right.
pub fn is_outage(message: &str) -> bool {
    let message = message.to_lowercase();
    ["unable to contact", "socket timed out", "connection refused", "unable to process configuration", "communication"]
        .iter()
        .any(|text| message.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of Slurm 22.05 for scripts with one wrong option each.
    #[test]
    fn the_key_that_caused_a_refusal_is_named() {
        for (message, key) in [
            ("sbatch: error: invalid partition specified: nope", "cluster.partition"),
            ("allocation failure: Invalid partition name specified", "cluster.partition"),
            ("allocation failure: Invalid feature specification", "cluster.constraint"),
            ("allocation failure: Invalid node name specified", "cluster.exclude"),
            ("allocation failure: Invalid job array specification", "cluster.judge.array_limit"),
            ("sbatch: error: Invalid --time specification", "cluster.time"),
            ("sbatch: unrecognized option '--nope=1'", "cluster.extra, or the flags after --"),
            ("allocation failure: Requested reservation is invalid", "cluster.reservation"),
            (
                "allocation failure: Invalid account or account/partition combination specified",
                "cluster.account (or cluster.partition)",
            ),
            ("allocation failure: Invalid qos specification", "cluster.qos"),
            ("sbatch: error: Invalid generic resource (gres) specification", "cluster.gpus, cluster.gpu_type"),
        ] {
            assert_eq!(key_of_refusal(message), Some(key), "{message}");
            assert!(!is_outage(message), "{message}");
        }
        assert_eq!(key_of_refusal("allocation failure: something new"), None);
        assert!(is_outage(
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
        ));
    }
}
