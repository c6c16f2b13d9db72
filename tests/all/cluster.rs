//! Submissions without a cluster: dry runs, profiles that cannot be used, and machines without
//! Slurm. `tests/slurm/suite.py` tests submissions on a real Slurm cluster.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::rounds::{evolve, place_in};
use crate::support::{Workspace, stderr_of};

const PIPELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/slurm/round.toml");

/// Returns the command `submit 1` on a machine without Slurm.
fn submit(place: &Workspace, profile: &str, more: &[&str]) -> Command {
    std::fs::write(place.path().join("c.toml"), profile).unwrap();
    let arguments = ["submit", "1", "--pipeline", PIPELINE, "--cluster", "c.toml"];
    let mut command = place.command(&[&arguments[..], more].concat());
    command.env("PATH", "/no-such-folder");
    command
}

fn fails(command: &mut Command, code: i32, message: &str) {
    let output: Output = command.output().unwrap();
    let printed = stderr_of(&output);
    assert_eq!(output.status.code(), Some(code), "{printed}");
    assert!(printed.contains(message), "{printed}");
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn a_dry_run_prints_the_scripts_and_writes_nothing() {
    let place = Workspace::new();
    let profile = "[cluster]\npartition = \"gpu\"\nprogram = \"/sw/visplay\"\n[cluster.judge]\ncount = 3\n";
    let more = ["--workers", "5", "--time", "2:00:00", "--dry-run", "--", "--mail-type", "FAIL", "--wckey=a b"];
    let output = submit(&place, profile, &more).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for line in [
        "#SBATCH --job-name=visplay-small-r1-driver",
        "#SBATCH --job-name=visplay-small-r1-judge",
        "#SBATCH --array=0-4",
        "#SBATCH --partition=gpu",
        "#SBATCH --time=02:00:00",
        "#SBATCH --requeue",
        "#SBATCH --kill-on-invalid-dep=yes",
        "#SBATCH --mail-type FAIL",
        "#SBATCH --wckey=\"a b\"",
    ] {
        assert!(lines.contains(&line), "{line} is not in:\n{text}");
    }
    let commands: Vec<&&str> = lines.iter().filter(|line| line.starts_with("exec /sw/visplay ")).collect();
    assert_eq!(commands.len(), 2, "{text}");
    assert!(!place.store().exists());
}

#[test]
fn a_machine_without_slurm_submits_nothing() {
    let place = Workspace::new();
    fails(&mut submit(&place, "[cluster]\n", &[]), 1, "there is no `sbatch` on the PATH");
    assert!(is_empty(&place.store().join("jobs")) && is_empty(&place.store().join("claims")));
    let output = place.command(&["cancel"]).env("PATH", "/no-such-folder").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "no job is queued or running\n", "{}", stderr_of(&output));
}

#[test]
fn what_cannot_be_submitted_is_named() {
    let place = Workspace::new();
    let wrong_key = "[cluster]\npartitoin = \"gpu\"\n";
    fails(&mut submit(&place, wrong_key, &[]), 2, "c.toml:2: unknown key `partitoin`; did you mean `partition`?");
    fails(&mut submit(&place, "[cluster]\n", &["--time", "soon"]), 2, "`cluster.time`: `soon` is not a time");
    fails(&mut submit(&place, "[cluster]\n", &["--", "--array=0-3"]), 2, "`--`: --array is set by visplay itself");
    let time = "`--`: --time is set by visplay itself; use --time of `visplay submit`, or cluster.time";
    fails(&mut submit(&place, "[cluster]\n", &["--", "-t", "5"]), 2, time);
    fails(&mut submit(&place, "[cluster]\n", &["--", "--wckey=a\nb"]), 2, "has a control character");
    fails(&mut submit(&place, "[cluster]\nprogram = \"visplay\"\n", &[]), 2, "`visplay` is not an absolute path");
    fails(&mut submit(&place, "[cluster]\nlogs = \"a\\\\b\"\n", &[]), 2, "`cluster.logs`: Slurm gives");
    let alone = place.command(&["submit", "1", "--pipeline", PIPELINE]).env("HOME", place.path()).output().unwrap();
    assert_eq!(alone.status.code(), Some(2));
    assert!(stderr_of(&alone).contains("there is no cluster profile (nor "), "{}", stderr_of(&alone));
    assert!(is_empty(&place.store().join("jobs")));
}

/// Runs a round in a Slurm job of a submission, at whose start the time is over, and returns the
/// output. A command in the place of `scontrol` notes its arguments.
fn at_time_limit(place: &Workspace, submission: &str, arguments: &[&str]) -> Output {
    let commands = place.path().join("commands");
    let script = commands.join("scontrol");
    std::fs::create_dir_all(&commands).unwrap();
    std::fs::write(&script, format!("#!/bin/sh\necho \"$@\" >>'{}'\n", calls(place).display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", commands.display(), std::env::var("PATH").unwrap());
    let mut command = evolve(place, "store", &[&["1", "--images", "source", "--until", "0s"], arguments].concat());
    command.env("PATH", path).env("SLURM_JOB_ID", "7").env("VISPLAY_SUBMISSION", submission).output().unwrap()
}

fn calls(place: &Workspace) -> PathBuf {
    place.path().join("calls")
}

#[test]
fn a_job_requeues_itself_at_its_time_limit_as_often_as_it_may_and_not_after_a_cancellation() {
    let place = place_in(Workspace::new());
    let submission = "t/round-0001/submit-000001";
    for (message, expected_calls) in [
        ("the job 7 is requeued (1 of 2)", 1),
        ("the job 7 is requeued (2 of 2)", 2),
        ("the job 7 was requeued as often as `requeues` allows (2)", 2),
    ] {
        let output = at_time_limit(&place, submission, &["--requeues", "2"]);
        assert_eq!(output.status.code(), Some(75), "{}", stderr_of(&output));
        assert!(stderr_of(&output).contains(message), "{}", stderr_of(&output));
        let calls = std::fs::read_to_string(calls(&place)).unwrap();
        assert_eq!(calls, "requeue 7\n".repeat(expected_calls));
    }
    let folder = place.path().join("store/jobs/t/round-0001/submit-000002");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("cancelled.json"), "{\"cancelled_ms\":1}\n").unwrap();
    let output = at_time_limit(&place, "t/round-0001/submit-000002", &["--requeues", "2"]);
    assert_eq!(output.status.code(), Some(75), "{}", stderr_of(&output));
    assert_eq!(std::fs::read_to_string(calls(&place)).unwrap(), "requeue 7\n".repeat(2));
    let end = std::fs::read_to_string(folder.join("ended-7.json")).unwrap();
    assert!(end.contains("cancelled by `visplay cancel`") && end.contains("\"is_requeued\":false"), "{end}");
}
