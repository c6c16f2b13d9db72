//! Messages on standard error, which are lost if nobody can read them.

use std::io::{self, Write};

/// Writes a line to standard error.
///
/// Errors are ignored, unlike in `eprintln!`, which panics: a closed pipe, a closed terminal or a
/// full disk behind standard error costs the message, not the run.
pub fn write_message(line: &str) {
    // One write, so that lines of several processes do not mix.
    let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}
