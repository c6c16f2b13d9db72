//! Keeps candle's own thread pool from being started: our threads are busy already, and its workers spin while they wait.
//!
//! Measured on the update of the nano model: half of all processor time went into that waiting.
#![allow(unsafe_code)]

/// The variable that candle reads when its pool is first used.
const VARIABLE: &str = "CANDLE_NUM_THREADS";

/// Tells candle to use no threads of its own for elementwise operations, unless the user has said otherwise.
///
/// To be called at the very beginning of `main`, before any thread is started.
pub fn limit() {
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: no other thread runs yet that could read the environment meanwhile; the caller promises it.
        unsafe { std::env::set_var(VARIABLE, "1") };
    }
}
