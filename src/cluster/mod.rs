//! Rounds on a cluster: submissions to the batch system, their jobs, and what became of them.
//!
//! A round is a few long-lived jobs: one driver, which runs `visplay evolve-round`, and an array of
//! judge workers, which run `visplay work`. All of them meet only in the store, so that jobs may
//! come, go, be killed and come back. Submitting is writing scripts for sbatch over the two
//! commands; `docs/cluster.md` is about both.

mod cancel;
mod error;
mod job_end;
mod profile;
mod queue;
mod quote;
mod reasons;
mod refusals;
mod sbatch_options;
mod script;
mod slurm;
mod submission;
mod submit;
mod time_limit;
mod timed_command;

pub use self::cancel::{Cancellation, cancel};
pub use self::error::{ClusterError, Result};
pub use self::job_end::{JobOutcome, end_job};
pub use self::profile::{ClusterProfile, GpuRequest, JudgeWorkers, Scheduler};
pub use self::queue::{JobState, JobStates, jobs};
pub use self::script::{JobKind, WorkerArray};
pub use self::submission::{
    JobEnd, StoredSubmission, Submission, SubmissionName, SubmittedJob, submissions, unusable_nodes,
};
pub use self::submit::{
    PlannedJob, SubmissionPlan, SubmitOutcome, SubmitRequest, next_number, plan_submission, submit,
};
pub use self::time_limit::TimeLimit;
