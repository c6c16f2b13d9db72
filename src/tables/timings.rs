//! `timings`: what a training step cost. Never the same twice, so no digest of a result covers it: it is kept beside the
//! result, and whatever compares runs leaves it out.

use super::enums::Role;
use super::row::table;

table! {
    /// The cost of a training step, on the machine that ran it.
    #[table("timings")]
    pub struct TimingRow {
        /// The role that trains; null in a warm start.
        pub role: Option<Role>,
        /// The step, from 0.
        pub step: u32,
        /// Seconds from the start of the step to its end.
        pub seconds: f64,
        /// Seconds of sampling the trained role.
        pub sampling_seconds: f64,
        /// Seconds of sampling answers to score the Questioner.
        pub answering_seconds: f64,
        /// Seconds of grading, clustering and rewards.
        pub scoring_seconds: f64,
        /// Seconds of log-probabilities under the reference.
        pub reference_seconds: f64,
        /// Seconds of forward passes.
        pub forward_seconds: f64,
        /// Seconds of backward passes.
        pub backward_seconds: f64,
        /// Seconds of the optimizer.
        pub optimizer_seconds: f64,
        /// Seconds of writing tables and checkpoints.
        pub writing_seconds: f64,
        /// Tokens sampled per second of sampling.
        pub sampled_tokens_per_second: Option<f64>,
        /// Tokens trained on per second of forward, backward and optimizer.
        pub trained_tokens_per_second: Option<f64>,
        /// Largest resident memory of the process so far, in bytes.
        pub peak_memory_bytes: u64,
        /// Largest memory on the accelerator so far, in bytes; null on a CPU.
        pub peak_device_memory_bytes: Option<u64>,
        /// Worker threads.
        pub threads: u32,
    }
}
