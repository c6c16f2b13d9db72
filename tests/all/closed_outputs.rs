//! Standard output and standard error that nobody can read.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::VISPLAY;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Ways to lose standard error.
fn unreadable() -> Vec<(&'static str, Stdio)> {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let read_only = File::open("/dev/null").unwrap();
    vec![("a closed pipe", writer.into()), ("a full disk", full.into()), ("a read-only file", read_only.into())]
}

fn visplay(arguments: &[&str], folder: &Path, stderr: Stdio) -> i32 {
    let mut command = Command::new(VISPLAY);
    command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr);
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(b"no JSON\n[]\n{\"given\": 1}\n");
    child.wait().unwrap().code().unwrap()
}

#[test]
fn lost_messages_do_not_change_the_exit_code() {
    let images = Path::new(REPOSITORY).join("data/images");
    let images = images.to_str().unwrap();
    let commands: [(&[&str], i32); 8] = [
        (&["ingest", images, "--store", "store"], 0),
        (&["ingest", images, "no-such-folder", "--store", "store"], 2),
        (&["grade"], 2),
        (&["status", "--store", "no-store"], 2),
        (&["no-such-command"], 2),
        (&["verify", "--full", "--store", "store"], 0),
        (&["gc", "--store", "store"], 0),
        (&["--help"], 0),
    ];
    for (name, _) in unreadable() {
        let folder = tempfile::tempdir().unwrap();
        for (arguments, code) in &commands {
            let stderr = unreadable().into_iter().find(|(other, _)| *other == name).unwrap().1;
            assert_eq!(visplay(arguments, folder.path(), stderr), *code, "{arguments:?} with {name} as standard error");
        }
    }
}

/// Waits at most a minute, then kills.
fn wait(child: &mut Child) -> Option<ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

#[test]
fn a_filter_ends_when_nobody_reads_its_output() {
    let lines = [
        (&["grade"][..], r#"{"given": "1", "gold": "1"}"#),
        (&["clusters"], r#"{"questions": ["a b", "a c"]}"#),
        (&["rewards", "--preset", "paper"], r#"{"groups": [[{"question": "a", "valid": true, "confidence": 0.5}]]}"#),
    ];
    for (filter, line) in lines {
        for (name, input) in [("valid lines", line), ("valid and invalid lines", &format!("{line}\nno JSON"))] {
            let mut source =
                Command::new("yes").arg(input).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let mut command = Command::new(VISPLAY);
            command.args(filter).stdin(source.stdout.take().unwrap()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            let mut output = BufReader::new(child.stdout.take().unwrap());
            let mut first = String::new();
            output.read_line(&mut first).unwrap();
            drop(output);
            let status = wait(&mut child);
            let _ = source.kill();
            source.wait().unwrap();
            assert!(first.starts_with('{'), "{filter:?}: {first}");
            assert!(status.is_some(), "{filter:?} reads on for ever ({name})");
        }
    }
}

#[test]
fn a_filter_without_valid_lines_ends_when_nobody_reads_its_output() {
    for filter in [&["grade"][..], &["clusters"], &["rewards", "--preset", "paper"]] {
        for (input, code) in [("no JSON", 2), ("{}", 2), ("", 0)] {
            let mut source =
                Command::new("yes").arg(input).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let mut command = Command::new(VISPLAY);
            command.args(filter).stdin(source.stdout.take().unwrap()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            std::thread::sleep(Duration::from_millis(100));
            assert!(child.try_wait().unwrap().is_none(), "{filter:?} ends while its output is read ({input})");
            drop(child.stdout.take());
            let status = wait(&mut child);
            let _ = source.kill();
            source.wait().unwrap();
            let status = status.unwrap_or_else(|| panic!("{filter:?} reads on for ever ({input})"));
            assert_eq!(status.code(), Some(code), "{filter:?} ({input})");
        }
    }
}

#[test]
fn an_ignored_hangup_stays_ignored() {
    for is_ignored in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let messages = folder.path().join("messages");
        // As nohup does.
        let trap = if is_ignored { "trap '' HUP" } else { ":" };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{trap}; exec \"$0\" \"$@\""), VISPLAY, "evolve-round", "1", "--pipeline"]);
        command.arg(Path::new(REPOSITORY).join("pipelines/nano.toml")).arg("--store").arg(folder.path().join("store"));
        let mut child = command.stdout(Stdio::null()).stderr(File::create(&messages).unwrap()).spawn().unwrap();
        let is_stopping = || fs::read_to_string(&messages).unwrap().contains("stopping");
        // The model is loaded after signals are handled.
        while !folder.path().join("store/actions").exists() {
            assert!(child.try_wait().unwrap().is_none(), "{}", fs::read_to_string(&messages).unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::HUP).unwrap();
        if is_ignored {
            std::thread::sleep(Duration::from_secs(1));
            assert!(!is_stopping());
            kill_process(pid, Signal::TERM).unwrap();
        } else {
            // A shell and the kernel may both report the end of a terminal.
            while !is_stopping() && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = kill_process(pid, Signal::HUP);
        }
        let status = wait(&mut child);
        assert!(is_stopping());
        // The command has stopped by itself.
        assert!(fs::read_to_string(&messages).unwrap().contains("interrupted; run the same command"));
        assert_eq!(status.unwrap().code(), Some(130));
    }
}
