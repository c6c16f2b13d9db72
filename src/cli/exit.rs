//! The exit codes of `visplay`, which scripts and Slurm jobs rely on.

/// The command succeeded.
pub const DONE: u8 = 0;
/// The command failed; the message says why and what to do.
pub const FAILED: u8 = 1;
/// The command line, a pipeline file or another input is invalid.
pub const USAGE: u8 = 2;
/// A gate stopped the round, or would certainly have; the previous round stays current.
pub const GATE: u8 = 3;
/// The store is damaged; `visplay verify` lists the damage.
pub const DAMAGED: u8 = 4;
/// Another process works on the round already, and this one was asked not to join it.
pub const UNDER_WAY: u8 = 5;
/// The device of this node cannot be used; another node may do.
pub const UNUSABLE_NODE: u8 = 6;
/// A source that was named for an ingest has no usable image; what the others gave is stored.
pub const NO_IMAGE: u8 = 7;
/// The process was asked to end before its work was done (SIGUSR1, `visplay drain`); the same
/// command continues (`EX_TEMPFAIL` of sysexits.h).
pub const TO_BE_CONTINUED: u8 = 75;
/// Interrupted by Ctrl-C, SIGTERM or SIGHUP (128 + 2, the shell's convention); the same command
/// resumes.
pub const INTERRUPTED: u8 = 130;
