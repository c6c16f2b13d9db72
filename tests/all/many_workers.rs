//! Several workers on one round: judges, drained and killed workers, shared weights, leases.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use visplay::tables::{AnswerRow, read_file};

use crate::rounds::{PIPELINE, evolve, place_in, report};
use crate::support::{VISPLAY, Workspace, stderr_of};

/// A pipeline whose stages have many shards.
fn small_shards() -> String {
    PIPELINE.replace("shard_rows = 5", "shard_rows = 5\nshard_tokens = 12")
}

fn place() -> Workspace {
    let place = place_in(Workspace::in_memory());
    std::fs::write(place.path().join("p.toml"), small_shards()).unwrap();
    place
}

/// Returns a folder with a round that takes long enough for several processes to meet in it.
fn long_place() -> Workspace {
    let place = place();
    let long = small_shards().replace("questions_per_image = 8", "questions_per_image = 512");
    std::fs::write(place.path().join("p.toml"), long).unwrap();
    place
}

fn command(place: &Workspace, store: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(VISPLAY);
    command.args(arguments).args(["--store", store]).current_dir(place.path());
    command
}

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn round(place: &Workspace, store: &str, arguments: &[&str]) -> Child {
    start(evolve(place, store, &[&["1", "--images", "source", "--threads", "1"], arguments].concat()))
}

fn worker(place: &Workspace, store: &str, role: &str, idle: &str) -> Child {
    start(command(place, store, &["work", "--role", role, "--idle", idle, "--threads", "1"]))
}

/// Waits until a store exists.
fn wait_for(path: &Path) {
    wait_until("the store has no format", || path.join("FORMAT").exists());
}

fn wait_until(problem: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "{problem}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Returns every file of a kind in a store, parsed, by name.
fn parsed(place: &Workspace, store: &str, folder: &str) -> BTreeMap<String, Value> {
    let root = place.path().join(store).join(folder);
    let walk = walkdir::WalkDir::new(&root).into_iter().flatten().filter(|e| e.file_type().is_file());
    walk.map(|e| {
        let name = e.path().strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_slice(&std::fs::read(e.path()).unwrap()).unwrap())
    })
    .collect()
}

/// Returns the stages of the shards that each process computed.
fn stages_by_process(place: &Workspace, store: &str) -> BTreeMap<u64, BTreeMap<String, usize>> {
    let actions = parsed(place, store, "actions");
    let mut stages: BTreeMap<u64, BTreeMap<String, usize>> = BTreeMap::new();
    for (name, result) in parsed(place, store, "results") {
        let stage = actions[&name]["stage"].as_str().unwrap().to_owned();
        let process = result["run"]["process"]["pid"].as_u64().unwrap();
        *stages.entry(process).or_default().entry(stage).or_default() += 1;
    }
    stages
}

fn leases(place: &Workspace, store: &str) -> usize {
    std::fs::read_dir(place.path().join(store).join("claims")).map_or(0, Iterator::count)
}

fn verify(place: &Workspace, store: &str) {
    let output = command(place, store, &["verify", "--full"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn judges_and_trainers_make_the_same_round_as_one_process() {
    let place = long_place();
    let alone = report(&round(&place, "alone", &[]).wait_with_output().unwrap());
    let driver = round(&place, "many", &[]);
    wait_for(&place.path().join("many"));
    let judge = worker(&place, "many", "judge", "5s");
    let trainer = worker(&place, "many", "any", "1s");
    let ids = [&driver, &judge, &trainer].map(|child| u64::from(child.id()));
    let many = report(&driver.wait_with_output().unwrap());
    assert_eq!(many["result"], alone["result"]);
    assert_eq!(many["report"], alone["report"]);
    for other in [judge, trainer] {
        let output = other.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr_of(&output));
    }
    let stages = stages_by_process(&place, "many");
    let of_judge = stages.get(&ids[1]).cloned().unwrap_or_default();
    assert!(of_judge.get("answers").is_some_and(|n| *n > 0), "{stages:?}");
    assert!(!of_judge.contains_key("update"), "a judge never trains: {stages:?}");
    assert_eq!((leases(&place, "many"), parsed(&place, "many", "workers").len()), (0, 0));
    verify(&place, "many");
}

#[test]
fn shards_by_tokens_change_files_but_no_token() {
    let place = place();
    // Without training, every model has the same weights however the rows are sharded.
    let untrained = |pipeline: &str| pipeline.replace("steps = 3", "steps = 0");
    let rows = |store: &str, pipeline: &str| {
        std::fs::write(place.path().join("p.toml"), untrained(pipeline)).unwrap();
        report(&round(&place, store, &[]).wait_with_output().unwrap());
        let folder = place.path().join(store).join("views/t/round=1/answers");
        let mut rows: Vec<String> = Vec::new();
        let mut files = 0;
        for file in std::fs::read_dir(folder).unwrap().flatten() {
            files += 1;
            let answers: Vec<AnswerRow> = read_file(&file.path()).unwrap();
            rows.extend(answers.iter().map(|row| format!("{} {} {}", row.question_id, row.sample, row.raw_text)));
        }
        rows.sort();
        (rows, files)
    };
    let ((small, small_files), (large, large_files)) = (rows("small", &small_shards()), rows("large", PIPELINE));
    assert!(small_files > large_files, "{small_files} {large_files}");
    assert!(!small.is_empty() && small == large);
}

#[test]
fn a_drained_worker_finishes_its_shard_and_the_round_goes_on() {
    let place = long_place();
    let alone = report(&round(&place, "alone", &[]).wait_with_output().unwrap());
    for by_command in [false, true] {
        let store = if by_command { "by-command" } else { "by-signal" };
        let driver = round(&place, store, &[]);
        wait_until("no note is written", || !parsed(&place, store, "workers").is_empty());
        if by_command {
            let output = command(&place, store, &["drain", "--all"]).output().unwrap();
            assert!(output.status.success(), "{}", stderr_of(&output));
        } else {
            signal(&driver, "-USR1");
        }
        let output = driver.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(75), "{}", stderr_of(&output));
        assert!(stderr_of(&output).contains("the same command continues"), "{}", stderr_of(&output));
        assert_eq!(leases(&place, store), 0);
        let status = command(&place, store, &["status"]).output().unwrap();
        assert!(text(&status).contains("no worker is running"), "{}", text(&status));
        let watch = command(&place, store, &["status", "--watch", "1"]).output().unwrap();
        assert_eq!(watch.status.code(), Some(1), "{}", stderr_of(&watch));
        // A worker finishes the round without the command that began it.
        let output = worker(&place, store, "any", "1s").wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr_of(&output));
        let found = report(&round(&place, store, &[]).wait_with_output().unwrap());
        assert_eq!((&found["result"], &found["found"]), (&alone["result"], &Value::Bool(true)));
        verify(&place, store);
    }
}

#[test]
fn of_two_processes_that_want_to_be_alone_one_works() {
    let place = long_place();
    // The one that comes second finds the other one at work, however close they are.
    let outputs = [0, 1].map(|_| round(&place, "store", &["--alone"])).map(|child| child.wait_with_output().unwrap());
    let codes: Vec<Option<i32>> = outputs.iter().map(|output| output.status.code()).collect();
    assert!(codes == [Some(0), Some(5)] || codes == [Some(5), Some(0)], "{codes:?}");
    // Beside a process that did not ask to be alone.
    let mut driver = round(&place, "other", &[]);
    wait_until("no note is written", || !parsed(&place, "other", "workers").is_empty());
    let refused = round(&place, "other", &["--alone"]).wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(5), "{}", stderr_of(&refused));
    assert!(stderr_of(&refused).contains("round 1 of t is under way"), "{}", stderr_of(&refused));
    driver.kill().unwrap();
    driver.wait().unwrap();
}

#[test]
fn a_process_that_fails_does_not_withdraw_the_round_of_another() {
    let place = long_place();
    let mut driver = round(&place, "store", &[]);
    wait_until("no note is written", || !parsed(&place, "store", "workers").is_empty());
    let announcement = place.path().join("store/jobs/t/round-0001/pipeline.toml");
    wait_until("the round is not announced", || announcement.exists());
    let before = std::fs::read(&announcement).unwrap();
    // It cannot open its device, and ends.
    let failed = round(&place, "store", &["--device", "cuda"]).wait_with_output().unwrap();
    assert_ne!(failed.status.code(), Some(0));
    assert_eq!(std::fs::read(&announcement).unwrap(), before);
    driver.kill().unwrap();
    driver.wait().unwrap();
}

#[test]
fn a_killed_worker_is_named_as_lost_and_its_shard_is_handed_out_again() {
    let place = place();
    let alone = report(&round(&place, "alone", &[]).wait_with_output().unwrap());
    let mut driver = round(&place, "store", &[]);
    wait_until("no note is written", || !parsed(&place, "store", "workers").is_empty());
    driver.kill().unwrap();
    driver.wait().unwrap();
    let status = command(&place, "store", &["status"]).output().unwrap();
    assert!(text(&status).contains("lost: no sign"), "{}", text(&status));
    let why = command(&place, "store", &["why", "round", "1", "--pipeline", "p.toml"]).output().unwrap();
    assert!(text(&why).contains("round 1 of t: no worker is running"), "{}", text(&why));
    let rerun = report(&round(&place, "store", &[]).wait_with_output().unwrap());
    assert_eq!(rerun["result"], alone["result"]);
    let why = command(&place, "store", &["why", "round", "1", "--pipeline", "p.toml"]).output().unwrap();
    assert!(text(&why).contains("is finished"), "{}", text(&why));
    verify(&place, "store");
}

#[test]
fn logs_of_all_workers_are_merged_by_time() {
    let place = place();
    report(&round(&place, "store", &[]).wait_with_output().unwrap());
    let output = command(&place, "store", &["logs", "--all"]).output().unwrap();
    let lines: Vec<String> = text(&output).lines().map(str::to_owned).collect();
    assert!(lines.iter().any(|line| line.contains(" t/1 Questioner, step 2 of 3")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("shard ") && line.contains(" done in ")), "{lines:?}");
    assert!(lines.windows(2).all(|pair| pair[0][..19] <= pair[1][..19]), "{lines:?}");
    let of_other = command(&place, "store", &["logs", "--all", "--evolution", "u"]).output().unwrap();
    assert!(!text(&of_other).contains("t/1"), "{}", text(&of_other));
    let under_way = command(&place, "store", &["logs"]).output().unwrap();
    assert!(!text(&under_way).contains("t/1"), "no round is under way: {}", text(&under_way));
}

#[test]
fn a_node_cache_holds_what_was_read_and_damage_to_it_does_no_harm() {
    let place = place();
    let alone = report(&round(&place, "alone", &[]).wait_with_output().unwrap());
    let cached = |store: &str| report(&round(&place, store, &["--cache", "cache"]).wait_with_output().unwrap());
    assert_eq!(cached("first")["result"], alone["result"]);
    let files =
        || -> Vec<_> { std::fs::read_dir(place.path().join("cache")).unwrap().flatten().map(|e| e.path()).collect() };
    assert!(files().iter().any(|path| path.extension().is_some_and(|e| e == "safetensors")));
    for path in files() {
        let len = std::fs::metadata(&path).unwrap().len();
        std::fs::write(&path, vec![7; len as usize]).unwrap();
    }
    assert_eq!(cached("second")["result"], alone["result"]);
    let tiny = report(&round(&place, "third", &["--cache", "tiny", "--cache-bytes", "1K"]).wait_with_output().unwrap());
    assert_eq!(tiny["result"], alone["result"]);
    let held: u64 =
        std::fs::read_dir(place.path().join("tiny")).unwrap().flatten().map(|e| e.metadata().unwrap().len()).sum();
    assert!(held <= 1024, "{held}");
}

#[test]
fn a_worker_without_work_ends() {
    let place = place();
    report(&round(&place, "store", &[]).wait_with_output().unwrap());
    let output = worker(&place, "store", "any", "1s").wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert!(stderr_of(&output).contains("no work is left"), "{}", stderr_of(&output));
    let drained = command(&place, "store", &["drain", "nobody-1"]).output().unwrap();
    assert_eq!(drained.status.code(), Some(2), "{}", stderr_of(&drained));
}
