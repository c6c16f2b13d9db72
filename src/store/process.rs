//! Identity of a process, by which others can tell whether it is still alive.

use serde::{Deserialize, Serialize};

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

    /// Whether the process ran on this host and has ended. `false` for a process of another host,
    /// since its state is unknown.
    pub fn is_surely_dead(&self) -> bool {
        self.host == host_name()
            && start_time(self.pid).is_none_or(|started| self.started != 0 && started != self.started)
    }

    /// Returns a file-name prefix that identifies the writer.
    pub fn prefix(&self) -> String {
        format!("{}-{}-{}", self.host, self.pid, self.started)
    }

    /// Parses the process from a file name made of a [`prefix`](Self::prefix), `-` and a number.
    pub fn parse_prefix(name: &str) -> Option<Self> {
        let mut parts = name.rsplitn(4, '-');
        let _counter: u64 = parts.next()?.parse().ok()?;
        let started = parts.next()?.parse().ok()?;
        let pid = parts.next()?.parse().ok()?;
        Some(Self { host: parts.next()?.to_owned(), pid, started })
    }
}

/// Returns this host's name, with characters unfit for file names replaced by `_`.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' }).collect()
}

/// Returns the start time of a live process. A zombie (ended, but not yet waited for, as in a
/// container without an init) counts as dead.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name in parentheses may contain spaces; the fields after it do not.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_identifies_its_process() {
        let me = Process::current();
        assert_eq!(Process::parse_prefix(&format!("{}-7", me.prefix())), Some(me.clone()));
        assert!(!me.is_surely_dead());
        assert!(Process { started: me.started + 1, ..me.clone() }.is_surely_dead());
        assert!(!Process { host: "elsewhere".into(), ..me }.is_surely_dead());
    }

    #[test]
    fn a_zombie_counts_as_dead() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().expect("cat");
        let other = Process {
            pid: child.id(),
            started: start_time(child.id()).expect("the child is running"),
            ..Process::current()
        };
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
