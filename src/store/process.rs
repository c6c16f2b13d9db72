//! Identity of a process, by which others can tell whether it is still alive.

use std::os::unix::fs::MetadataExt;
use std::sync::LazyLock;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::ids::Digest;

/// A process on some host. Process ids are reused, but not together with the start time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Host name.
    pub host: String,
    /// Process id on that host.
    pub pid: u32,
    /// Start time in clock ticks since the host booted (`/proc/PID/stat`, field 22); 0 if unknown.
    pub started: u64,
}

impl Process {
    /// Returns the identity of this process.
    pub fn current() -> Self {
        let pid = std::process::id();
        Self { host: host_name(), pid, started: start_time(pid).unwrap_or(0) }
    }
}

/// A process that owns a lease or a temporary file.
///
/// Containers on one machine often share its host name, but a process id means another process in
/// each of them. The scope tells whether an id can be looked up here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    /// The process.
    #[serde(flatten)]
    pub(super) process: Process,
    /// Digest of the boot id and the namespaces in which the process id and the start time are
    /// valid; `None` if unknown, as in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

impl Owner {
    /// Returns this process.
    pub(super) fn current() -> Self {
        Self { process: Process::current(), scope: SCOPE.clone() }
    }

    /// Whether the process has ended. `false` for a process of another host, boot or container,
    /// whose state is unknown.
    pub(super) fn is_surely_dead(&self) -> bool {
        let Process { host, pid, started } = &self.process;
        self.scope.is_some()
            && self.scope == *SCOPE
            && *host == host_name()
            && match process_state(*pid) {
                ProcessState::Ended => true,
                ProcessState::Started(now) => *started != 0 && *started != now,
                ProcessState::Hidden => false,
            }
    }

    /// Returns a file-name prefix that identifies the writer.
    pub(super) fn prefix(&self) -> String {
        let Process { host, pid, started } = &self.process;
        match &self.scope {
            Some(scope) => format!("{host}~{scope}-{pid}-{started}"),
            None => format!("{host}-{pid}-{started}"),
        }
    }

    /// Parses the process from a file name made of a [`prefix`](Self::prefix), `-` and a number.
    pub(super) fn parse_prefix(name: &str) -> Option<Self> {
        let mut parts = name.rsplitn(4, '-');
        let _counter: u64 = parts.next()?.parse().ok()?;
        let started = parts.next()?.parse().ok()?;
        let pid = parts.next()?.parse().ok()?;
        let host = parts.next()?;
        let (host, scope) = host.split_once('~').map_or((host, None), |(host, scope)| (host, Some(scope.to_owned())));
        Some(Self { process: Process { host: host.to_owned(), pid, started }, scope })
    }
}

/// Returns this host's name, with characters unfit for file names replaced by `_`.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' }).collect()
}

/// The scope of this process.
static SCOPE: LazyLock<Option<String>> = LazyLock::new(|| {
    // `/proc` may have been mounted in another namespace, whose process ids it shows.
    let shown = std::fs::read_link("/proc/self").ok()?;
    (shown.to_str()? == std::process::id().to_string()).then_some(())?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let inode = |name: &str| std::fs::metadata(format!("/proc/self/ns/{name}")).map(|meta| meta.ino());
    // Kernels before 5.6 have no time namespaces.
    Some(scope_of(&boot, [inode("pid").ok()?, inode("time").unwrap_or(0)]))
});

fn scope_of(boot_id: &str, namespaces: [u64; 2]) -> String {
    let [pid, time] = namespaces.map(u64::to_le_bytes);
    let digest = Digest::derive("visplay 2026-12 process scope v1", &[boot_id.trim().as_bytes(), &pid, &time]);
    digest.to_string()[..16].to_owned()
}

/// State of a process id in this scope.
enum ProcessState {
    /// No process has the id.
    Ended,
    /// A process has it, with this start time.
    Started(u64),
    /// A process has it that this user may not inspect (`/proc` mounted with `hidepid`).
    Hidden,
}

/// Returns the state of a process. A zombie (ended, but not yet waited for, as in a container
/// without an init) counts as ended.
fn process_state(pid: u32) -> ProcessState {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let is_absent = pid.is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH));
        return if is_absent { ProcessState::Ended } else { ProcessState::Hidden };
    };
    let parse = || {
        // The command name in parentheses may contain spaces; the fields after it do not.
        let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
        let state = fields.next()?;
        let is_over = matches!(state, "Z" | "X");
        if is_over { Some(ProcessState::Ended) } else { fields.nth(18)?.parse().ok().map(ProcessState::Started) }
    };
    parse().unwrap_or(ProcessState::Hidden)
}

fn start_time(pid: u32) -> Option<u64> {
    match process_state(pid) {
        ProcessState::Started(time) => Some(time),
        ProcessState::Ended | ProcessState::Hidden => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_identifies_its_process() {
        let me = Owner::current();
        assert!(me.scope.is_some());
        assert_eq!(Owner::parse_prefix(&format!("{}-7", me.prefix())), Some(me.clone()));
        let earlier = Owner { scope: None, ..me };
        assert_eq!(Owner::parse_prefix(&format!("{}-7", earlier.prefix())), Some(earlier));
    }

    #[test]
    fn a_process_of_this_scope_is_dead_once_it_has_ended() {
        let me = Owner::current();
        assert!(!me.is_surely_dead());
        let later = Process { started: me.process.started + 1, ..me.process.clone() };
        assert!(Owner { process: later, ..me.clone() }.is_surely_dead());
        // Larger than any process id of Linux.
        let absent = Process { pid: (1 << 22) + 1, ..me.process.clone() };
        assert!(Owner { process: absent, ..me }.is_surely_dead());
    }

    #[test]
    fn a_process_of_another_host_container_or_boot_is_never_surely_dead() {
        let me = Owner::current();
        let ended = Owner { process: Process { pid: (1 << 22) + 1, ..me.process.clone() }, ..me };
        assert!(ended.is_surely_dead());
        let elsewhere = Process { host: "elsewhere".into(), ..ended.process.clone() };
        assert!(!Owner { process: elsewhere, ..ended.clone() }.is_surely_dead());
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
        let [pid, time] =
            ["pid", "time"].map(|n| std::fs::metadata(format!("/proc/self/ns/{n}")).map_or(0, |m| m.ino()));
        assert_eq!(ended.scope, Some(scope_of(&boot, [pid, time])));
        let other_boot = "0b0e1d5e-4b52-4f54-8f0e-2f1f4b6e5a11\n";
        for scope in [
            None,
            Some(scope_of(&boot, [pid + 1, time])),
            Some(scope_of(&boot, [pid, time + 1])),
            Some(scope_of(other_boot, [pid, time])),
            Some(String::new()),
        ] {
            assert!(!Owner { scope: scope.clone(), ..ended.clone() }.is_surely_dead(), "{scope:?}");
        }
    }

    #[test]
    fn a_zombie_counts_as_dead() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().expect("cat");
        let started = start_time(child.id()).expect("the child is running");
        let process = Process { pid: child.id(), started, ..Process::current() };
        let other = Owner { process, ..Owner::current() };
        assert!(!other.is_surely_dead());
        drop(child.stdin.take());
        let begun = std::time::Instant::now();
        while !other.is_surely_dead() {
            assert!(begun.elapsed().as_secs() < 20, "the ended child still counts as alive");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.wait().expect("the child can be waited for");
    }
}
