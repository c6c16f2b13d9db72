//! The `timings` table: time and memory of training steps.
//!
//! Timings differ from run to run. They are stored next to a result but not covered by its digest,
//! and are left out when runs are compared.

use super::enums::Role;
use super::row::table;

table! {
    /// Time and memory of a training step on the machine that ran it.
    #[table("timings")]
    pub struct TimingRow {
        /// Role that is trained; null in a warm start.
        pub role: Option<Role>,
        /// Step, from 0.
        pub step: u32,
        /// Seconds from the start of the step to its end.
        pub seconds: f64,
        /// Seconds of sampling by the trained role.
        pub sampling_seconds: f64,
        /// Seconds of sampling answers to score the Questioner.
        pub answering_seconds: f64,
        /// Seconds of grading, clustering and rewards.
        pub scoring_seconds: f64,
        /// Seconds of computing log-probabilities under the reference policy.
        pub reference_seconds: f64,
        /// Seconds of forward passes.
        pub forward_seconds: f64,
        /// Seconds of backward passes.
        pub backward_seconds: f64,
        /// Seconds of optimizer updates.
        pub optimizer_seconds: f64,
        /// Seconds of writing tables and checkpoints.
        pub writing_seconds: f64,
        /// Tokens sampled per second of sampling.
        pub sampled_tokens_per_second: Option<f64>,
        /// Tokens trained on per second of forward, backward and optimizer.
        pub trained_tokens_per_second: Option<f64>,
        /// Peak resident memory of the process so far, in bytes.
        pub peak_memory_bytes: u64,
        /// Peak GPU memory so far, in bytes; null on a CPU.
        pub peak_device_memory_bytes: Option<u64>,
        /// Number of worker threads.
        pub threads: u32,
    }
}
