//! Commands with a time limit: a batch system whose controller hangs must not hang its caller.

use std::io::{ErrorKind, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::error::{ClusterError, Result};

/// The output of a command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// Whether the command succeeded.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command with this text as its standard input, and ends it after the timeout.
///
/// # Errors
/// It cannot be started, or does not end in time.
pub fn run(program: &str, arguments: &[&str], input: &str, timeout: Duration) -> Result<CommandOutput> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| match e.kind() {
        ErrorKind::NotFound => ClusterError::NoCommand { command: program.to_owned() },
        _ => ClusterError::Failed { command: program.to_owned(), message: e.to_string() },
    })?;
    let (stdin, input) = (child.stdin.take(), input.to_owned());
    // The threads end with the pipes, at the latest when the child is killed. A child of the child
    // that keeps a pipe open would hold `join` up, so that results are received with a limit too.
    thread::spawn(move || stdin.map(|mut pipe| pipe.write_all(input.as_bytes())));
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    let deadline = Instant::now() + timeout;
    let no_answer = || ClusterError::NoAnswer { command: program.to_owned(), timeout };
    let Some(success) = wait(&mut child, deadline) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(no_answer());
    };
    let rest = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
    let receive = |text: &std::sync::mpsc::Receiver<String>| text.recv_timeout(rest()).map_err(|_| no_answer());
    Ok(CommandOutput { success, stdout: receive(&stdout)?, stderr: receive(&stderr)? })
}

/// Waits for the end of a child; `None` if the deadline comes first.
fn wait(child: &mut Child, deadline: Instant) -> Option<bool> {
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if Instant::now() < deadline => {}
            _ => return None,
        }
        thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_millis(50));
    }
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> std::sync::mpsc::Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still the answer.
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn output_and_status_are_returned() {
        let output = run("bash", &["-c", "cat; echo oh >&2; exit 3"], "text", LONG).expect("it ends");
        assert_eq!(output, CommandOutput { success: false, stdout: "text".into(), stderr: "oh\n".into() });
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let begun = Instant::now();
        let e = run("sleep", &["600"], "", Duration::from_millis(200)).expect_err("it hangs");
        assert!(matches!(e, ClusterError::NoAnswer { .. }), "{e}");
        // A child that holds the pipes outlives its parent.
        let e = run("bash", &["-c", "sleep 3 & exit 0"], "", Duration::from_millis(200)).expect_err("it hangs");
        assert!(matches!(e, ClusterError::NoAnswer { .. }), "{e}");
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn a_command_that_is_not_installed_is_named() {
        let e = run("visplay-no-such-command", &[], "", LONG).expect_err("no such command");
        assert_eq!(e.to_string(), "there is no `visplay-no-such-command` on the PATH");
    }
}
