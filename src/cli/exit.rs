//! The exit codes of `visplay`: scripts and Slurm jobs rely on them.

/// Everything asked for is done.
pub const DONE: u8 = 0;
/// Something failed; the message says what and what to do.
pub const FAILED: u8 = 1;
/// The command line, a pipeline file or another input is not usable as written.
pub const USAGE: u8 = 2;
/// A gate stopped the round, or would have whatever came of it; the previous round stays current.
pub const GATE: u8 = 3;
/// The store is damaged; `visplay verify` names what.
pub const DAMAGED: u8 = 4;
/// Another process holds what is needed.
pub const BUSY: u8 = 5;
/// Stopped by Ctrl-C or SIGTERM (128 + 2, the shell's convention); the same command goes on from there.
pub const INTERRUPTED: u8 = 130;
