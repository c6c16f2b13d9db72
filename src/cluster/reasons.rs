//! Slurm's states and reasons of jobs, in words.

/// Returns a job's state in words. States that this table does not know are returned in lower case.
pub fn state_in_words(state: &str) -> String {
    let words = match state {
        "PENDING" => "queued",
        "CONFIGURING" => "starting: its nodes are being prepared",
        "RUNNING" => "running",
        "COMPLETING" => "ending",
        "STAGE_OUT" => "ending: files are being copied",
        "SIGNALING" => "running: it is being signalled",
        "SUSPENDED" | "STOPPED" => "suspended by the cluster",
        "REQUEUED" => "being requeued",
        "REQUEUE_HOLD" => "held after a requeue; `scontrol release ID` lets it go",
        "REQUEUE_FED" => "being requeued in its federation",
        "RESV_DEL_HOLD" => "held: its reservation was deleted",
        "SPECIAL_EXIT" => "held after an exit code that the site treats specially",
        "RESIZING" => "running: its size is changing",
        "REVOKED" => "moved to another cluster",
        "COMPLETED" => "ended",
        "CANCELLED" => "cancelled",
        "FAILED" => "failed",
        "TIMEOUT" => "ended by its time limit",
        "DEADLINE" => "ended by its deadline",
        "OUT_OF_MEMORY" => "ended: out of memory; raise cluster.memory_per_worker",
        "NODE_FAIL" => "ended: its node failed",
        "BOOT_FAIL" => "ended: its node did not start",
        "PREEMPTED" => "ended: preempted by another job",
        "LAUNCH_FAILED" | "RECONFIG_FAIL" => "failed before the program started",
        _ => return state.to_lowercase().replace('_', " "),
    };
    words.to_owned()
}

/// Returns whether a job in this state will do no more work, unless it is submitted again.
pub fn is_over(state: &str) -> bool {
    matches!(
        state,
        "COMPLETED"
            | "CANCELLED"
            | "FAILED"
            | "TIMEOUT"
            | "DEADLINE"
            | "OUT_OF_MEMORY"
            | "NODE_FAIL"
            | "BOOT_FAIL"
            | "PREEMPTED"
            | "LAUNCH_FAILED"
            | "RECONFIG_FAIL"
            | "REVOKED"
    )
}

/// Returns the reason why a job waits, or why it failed, in words; `None` if Slurm gives none.
///
/// `back_at` is the time of day at which a job waiting for its begin time becomes eligible.
pub fn reason_in_words(reason: &str, back_at: Option<&str>) -> Option<String> {
    let words = match reason {
        "" | "None" | "(null)" | "N/A" => return None,
        "BeginTime" => return Some(back_at.map_or("waits for its begin time".into(), |at| format!("back at {at}"))),
        "Priority" => "jobs with a higher priority are first",
        "Resources" => "waits for free nodes",
        "Dependency" => "waits for another job to start or end",
        "DependencyNeverSatisfied" => "the job that it waits for ended otherwise than required; `visplay cancel`",
        "JobArrayTaskLimit" => "waits for another worker to end (judge.at_most_at_once)",
        "JobArrayTaskThrottle" => "waits for another worker to end (judge.at_most_at_once)",
        "Licenses" => "waits for a licence",
        "Reservation" => "waits for its reservation",
        "ReservationDeleted" => "its reservation was deleted",
        "PartitionTimeLimit" => "its time is over the partition's limit: lower cluster.time or --time",
        "PartitionNodeLimit" => "it wants more nodes than the partition allows",
        "PartitionConfig" => {
            "the partition does not allow this request: look at cluster.time, cpus_per_worker and memory_per_worker"
        }
        "PartitionDown" => "its partition is down",
        "PartitionInactive" => "its partition is inactive",
        "AccountNotAllowed" => "the partition does not allow cluster.account",
        "QOSNotAllowed" => "the partition or account does not allow cluster.qos",
        "InvalidAccount" => "there is no such account: cluster.account",
        "InvalidQOS" => "there is no such quality of service: cluster.qos",
        "BadConstraints" => "no node can satisfy it: cluster.constraint, gpu_type or exclude",
        "ReqNodeNotAvail" => "a node that it needs is down, drained or reserved",
        "NodeDown" => "a node that it needs is down",
        "JobHeldUser" => "held by its user; `scontrol release ID` lets it go",
        "JobHeldAdmin" => "held by an administrator",
        "JobHoldMaxRequeue" => "held: the cluster allows no more requeues",
        "Cleaning" => "its last run is being cleaned up",
        "Prolog" => "its node is being prepared",
        "RaisedSignal" => "a signal ended it",
        "NonZeroExitCode" => "the program failed; its log says why",
        "TimeLimit" => "its time was over",
        "JobLaunchFailure" => "it could not start: look at the folder of logs and the setup lines",
        "OutOfMemory" => "out of memory; raise cluster.memory_per_worker",
        "SystemFailure" => "the cluster failed",
        "InactiveLimit" => "it did nothing for too long",
        "NodeFail" => "its node failed",
        _ => return Some(limit_in_words(reason)),
    };
    Some(words.to_owned())
}

/// Returns the words for a reason that is a limit of an association or a quality of service, of
/// which Slurm has about a hundred: `QOSMaxGRESPerUser`, `AssocGrpCPUMinutesLimit`. Other reasons
/// are returned as they are.
fn limit_in_words(reason: &str) -> String {
    for (prefix, whose) in [("QOS", "the quality of service (cluster.qos)"), ("Assoc", "the account (cluster.account)")]
    {
        if let Some(limit) = reason.strip_prefix(prefix)
            && (limit.starts_with("Max") || limit.starts_with("Grp") || limit.ends_with("Limit"))
        {
            return format!("a limit of {whose} is reached: {reason}");
        }
    }
    // A reason may carry names of nodes: `ReqNodeNotAvail, UnavailableNodes:n1`.
    if let Some((first, rest)) = reason.split_once(',')
        && let Some(words) = reason_in_words(first, None)
        && words != first
    {
        return format!("{words} ({})", rest.trim());
    }
    reason.to_owned()
}

/// Returns whether a job that waits for this reason will wait for ever.
pub fn waits_for_ever(reason: &str) -> bool {
    matches!(
        reason,
        "DependencyNeverSatisfied"
            | "PartitionTimeLimit"
            | "PartitionNodeLimit"
            | "PartitionConfig"
            | "AccountNotAllowed"
            | "QOSNotAllowed"
            | "InvalidAccount"
            | "InvalidQOS"
            | "BadConstraints"
            | "ReservationDeleted"
            | "JobHoldMaxRequeue"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_in_words() {
        let words = |reason: &str| reason_in_words(reason, Some("08:31"));
        assert_eq!(words("None"), None);
        assert_eq!(words("BeginTime").as_deref(), Some("back at 08:31"));
        assert_eq!(reason_in_words("BeginTime", None).as_deref(), Some("waits for its begin time"));
        assert_eq!(words("Resources").as_deref(), Some("waits for free nodes"));
        assert_eq!(
            words("QOSMaxGRESPerUser").as_deref(),
            Some("a limit of the quality of service (cluster.qos) is reached: QOSMaxGRESPerUser")
        );
        assert_eq!(
            words("AssocGrpCPUMinutesLimit").as_deref(),
            Some("a limit of the account (cluster.account) is reached: AssocGrpCPUMinutesLimit")
        );
        assert_eq!(
            words("ReqNodeNotAvail, UnavailableNodes:n[1-2]").as_deref(),
            Some("a node that it needs is down, drained or reserved (UnavailableNodes:n[1-2])")
        );
        assert_eq!(words("SomethingNew").as_deref(), Some("SomethingNew"));
    }

    #[test]
    fn states_are_told_in_words() {
        assert_eq!(state_in_words("PENDING"), "queued");
        assert_eq!(state_in_words("SOMETHING_NEW"), "something new");
        assert!(is_over("TIMEOUT") && !is_over("COMPLETING") && !is_over("PENDING") && !is_over("REQUEUED"));
        assert!(waits_for_ever("PartitionTimeLimit") && !waits_for_ever("Resources"));
    }
}
