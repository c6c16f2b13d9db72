//! Kills and races of the real command: the result is always the same, and the store stays intact.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Workspace;

/// Returns the number of kills, which `VISPLAY_KILLS` overrides.
fn kills() -> u64 {
    std::env::var("VISPLAY_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_run_killed_at_any_moment_resumes_to_the_same_result() {
    let place = Workspace::new();
    place.fill(160);
    let clock = Instant::now();
    let expected = place.ingest();
    let full_run = clock.elapsed();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let (mut killed, mut tries) = (0, 0);
    while killed < kills() {
        tries += 1;
        assert!(tries < 40 * kills(), "the command ends before it can be killed");
        std::fs::remove_dir_all(place.store()).unwrap();
        // Several kills in a row, then a complete run.
        for _ in 0..1 + tries % 3 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let moment = full_run.mul_f64((state % 1000) as f64 / 1000.0);
            let mut child = spawn(&mut place.command(&["ingest", "source"]));
            std::thread::sleep(moment);
            child.kill().unwrap();
            killed += u64::from(!child.wait().unwrap().success());
        }
        let done = place.ingest();
        assert_eq!(done["result"], expected["result"]);
        assert_eq!(place.verify(), (0, vec![]));
    }
}

#[test]
fn processes_that_share_a_store_share_the_work() {
    let alone = Workspace::new();
    alone.fill(120);
    let expected = alone.ingest();
    for workers in [2, 4] {
        let place = Workspace::new();
        place.fill(120);
        let mut children: Vec<Child> = (0..workers)
            .map(|_| {
                let mut command = place.command(&["ingest", "source", "--json"]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let mut computed = 0;
        for child in children.drain(..) {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let done: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(done["result"], expected["result"]);
            assert_eq!(done["ref"], "t/images@1");
            computed += done["shards_made"].as_u64().unwrap();
        }
        assert_eq!(computed, expected["shards_made"].as_u64().unwrap(), "each shard is computed once");
        assert_eq!(place.verify(), (0, vec![]));
    }
}

#[test]
fn processes_with_different_sources_extend_one_table() {
    let place = Workspace::new();
    place.fill(60);
    let mut children: Vec<Child> =
        (0..3).map(|i| spawn(&mut place.command(&["ingest", &format!("source/folder-{i}")]))).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let status = place.json(&["status"]);
    assert_eq!(status["refs"][0]["counts"]["rows_out"], 60);
    assert_eq!(status["refs"][0]["sequence"], 3);
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn ctrl_c_stops_a_run_soon_and_keeps_finished_work() {
    let place = Workspace::new();
    place.fill(300);
    let expected = {
        let other = Workspace::new();
        other.fill(300);
        other.ingest()
    };
    let mut child = spawn(&mut place.command(&["ingest", "source"]));
    std::thread::sleep(Duration::from_millis(60));
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success();
    let status = child.wait().unwrap();
    // The run may have finished before the signal.
    assert!(!interrupted || status.success() || status.code() == Some(130), "{status:?}");
    assert_eq!(place.ingest()["result"], expected["result"]);
    assert_eq!(place.verify(), (0, vec![]));
}
