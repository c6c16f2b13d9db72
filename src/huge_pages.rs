//! Memory in pages of 2 MiB, where Linux gives them to those who ask.
//!
//! Weights, gradients and activations are gone through from end to end. In pages of 4 KiB much of that time goes into finding the next
//! page, and into its first write, above all in a virtual machine: a training step of a model of 60 million parameters takes a sixth
//! longer (`docs/speed.md`). glibc asks for large pages if a tunable says so, which it reads when a process starts
//! (`glibc.malloc.hugetlb`, since 2.35): so the process starts itself once more, with that tunable.

/// The tunables that glibc reads.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// Set once it was tried; whoever sets it has pages as the system gives them.
const TRIED: &str = "VISPLAY_HUGE_PAGES";
/// What the system gives: the word in brackets.
const SYSTEM: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Has the heap ask for large pages, if the system gives them only to those who ask and the user's environment says nothing else.
///
/// To be called at the beginning of `main`: it replaces the process by itself, with the same arguments, number and open files. Where that
/// cannot be done it does nothing.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn prefer() {
    use std::env;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    let is_asked_for = std::fs::read_to_string(SYSTEM).is_ok_and(|modes| modes.contains("[madvise]"));
    if !is_asked_for || env::var_os(TUNABLES).is_some() || env::var_os(TRIED).is_some() {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let mut arguments = env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // It comes back only if it failed, and then all is as before.
    let _ = again.args(arguments).env(TUNABLES, "glibc.malloc.hugetlb=1").env(TRIED, "1").exec();
}

/// Has the heap ask for large pages: not on this system.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn prefer() {}
