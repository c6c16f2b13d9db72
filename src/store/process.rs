//! Who a process is, so that others can tell whether it still lives.

use serde::{Deserialize, Serialize};

/// A process of a host. A process id alone is reused; with its start time it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The host's name.
    pub host: String,
    /// The process id on that host.
    pub pid: u32,
    /// When it started, in clock ticks since that host's boot (`/proc/PID/stat`, field 22); 0 where unknown.
    pub started: u64,
}

impl Process {
    /// This process.
    pub fn current() -> Self {
        let pid = std::process::id();
        Self { host: host_name(), pid, started: start_time(pid).unwrap_or(0) }
    }

    /// Whether it ran on this host and is certainly gone. A process of another host is never surely dead.
    pub fn is_surely_dead(&self) -> bool {
        self.host == host_name()
            && start_time(self.pid).is_none_or(|started| self.started != 0 && started != self.started)
    }

    /// A file-name prefix that says who wrote the file.
    pub fn prefix(&self) -> String {
        format!("{}-{}-{}", self.host, self.pid, self.started)
    }

    /// The process in a file name that starts with a [`prefix`](Self::prefix) and ends with `-` and a number.
    pub fn parse_prefix(name: &str) -> Option<Self> {
        let mut parts = name.rsplitn(4, '-');
        let _counter: u64 = parts.next()?.parse().ok()?;
        let started = parts.next()?.parse().ok()?;
        let pid = parts.next()?.parse().ok()?;
        Some(Self { host: parts.next()?.to_owned(), pid, started })
    }
}

/// This host's name, of letters that a file name can hold.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' }).collect()
}

/// When a living process started. One that has ended and that nobody waited for, as in a container without an init, lives no more.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may hold spaces; the fields after it do not.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_names_its_process() {
        let me = Process::current();
        assert_eq!(Process::parse_prefix(&format!("{}-7", me.prefix())), Some(me.clone()));
        assert!(!me.is_surely_dead());
        assert!(Process { started: me.started + 1, ..me.clone() }.is_surely_dead());
        assert!(!Process { host: "elsewhere".into(), ..me }.is_surely_dead());
    }

    #[test]
    fn a_process_that_ended_is_dead_before_anybody_waits_for_it() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().expect("cat");
        let other =
            Process { pid: child.id(), started: start_time(child.id()).expect("it lives"), ..Process::current() };
        assert!(!other.is_surely_dead());
        drop(child.stdin.take());
        let begun = std::time::Instant::now();
        while !other.is_surely_dead() {
            assert!(begun.elapsed().as_secs() < 20, "it is taken for alive");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.wait().expect("waited for");
    }
}
