//! A setting that keeps candle from starting a thread pool of its own.
//!
//! Our threads already use every core, and candle's workers spin while they wait: half of the
//! processor time of an update of the nano model went into that.
#![allow(unsafe_code)]

/// Environment variable that candle reads when its pool is first used.
const VARIABLE: &str = "CANDLE_NUM_THREADS";

/// Makes candle run elementwise operations on the calling thread, unless the user set the variable.
///
/// Must be called at the very beginning of `main`, before any thread starts.
pub fn limit() {
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: no other thread runs yet that could read the environment; the caller guarantees
        // it.
        unsafe { std::env::set_var(VARIABLE, "1") };
    }
}
