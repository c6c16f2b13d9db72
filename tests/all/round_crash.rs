//! Rounds that are killed, interrupted, raced and damaged: tables and checkpoints are always the
//! same, and the store stays valid.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::file_systems::with_faults;
use crate::rounds::{PIPELINE, evolve, place_in, report};
use crate::support::{VISPLAY, Workspace, interrupt, stderr_of};

/// Returns the number of kills, which `VISPLAY_KILLS` overrides.
fn kills() -> usize {
    std::env::var("VISPLAY_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

/// A pseudo-random number generator (xorshift).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number from 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() % 10_000) as f64 / 10_000.0
    }
}

/// Returns the files below a folder of a store, by their names within the store.
pub fn files(place: &Workspace, store: &str, folder: &str) -> BTreeMap<String, PathBuf> {
    let root = place.path().join(store);
    let walk = walkdir::WalkDir::new(root.join(folder)).into_iter().flatten().filter(|e| e.file_type().is_file());
    walk.map(|e| (e.path().strip_prefix(&root).unwrap().to_string_lossy().into_owned(), e.into_path())).collect()
}

/// Returns the outputs, counts and inputs of every result.
pub fn results(place: &Workspace, store: &str) -> BTreeMap<String, Value> {
    let read = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let outcome_of = |(name, path): (String, PathBuf)| {
        let result = read(&path);
        assert!(result["outputs"].is_array(), "{result}");
        (name, json!([result["outputs"], result["counts"], result["figures"], result["upstream"]]))
    };
    files(place, store, "results").into_iter().map(outcome_of).collect()
}

/// Returns the result that each ref of a store names.
pub fn refs(place: &Workspace, store: &str) -> BTreeMap<String, Value> {
    let read = |path: PathBuf| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    files(place, store, "refs").into_iter().map(|(name, path)| (name, read(path)["result"].clone())).collect()
}

pub fn verify(place: &Workspace, store: &str) -> (i32, BTreeSet<String>) {
    let mut command = Command::new(VISPLAY);
    command.args(["verify", "--full", "--json", "--store", store]).current_dir(place.path());
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = report["problems"].as_array().unwrap().iter();
    (output.status.code().unwrap(), problems.map(|p| p["name"].as_str().unwrap().to_owned()).collect())
}

fn begin(place: &Workspace, store: &str, threads: &str) -> Child {
    let mut command = evolve(place, store, &["1", "--images", "source", "--threads", threads]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run_round(place: &Workspace, store: &str, threads: &str) -> Value {
    report(&begin(place, store, threads).wait_with_output().unwrap())
}

/// Checks that a store is valid and has the same results and refs as another one.
pub fn assert_same_results(place: &Workspace, store: &str, other: &str) {
    let (these, those) = (results(place, store), results(place, other));
    assert_eq!(these.keys().collect::<Vec<_>>(), those.keys().collect::<Vec<_>>());
    for (name, result) in &these {
        assert_eq!(result, &those[name], "{name}");
    }
    assert_eq!(refs(place, store), refs(place, other));
    assert_eq!(verify(place, store), (0, BTreeSet::new()));
}

/// Returns a folder with a small version of the bundled pipeline; `VISPLAY_NANO=whole` keeps its
/// full size.
fn nano_folder() -> Workspace {
    let (place, project) = (Workspace::in_memory(), Path::new(env!("CARGO_MANIFEST_DIR")));
    std::fs::remove_dir(place.source()).unwrap();
    std::os::unix::fs::symlink(project.join("data/images"), place.source()).unwrap();
    let mut file = std::fs::read_to_string(project.join("pipelines/nano.toml")).unwrap();
    let mut change = |from: &str, to: &str| {
        assert!(file.contains(from), "{from}");
        file = file.replace(from, to);
    };
    change("\"../data/", &format!("\"{}/data/", project.display()));
    if std::env::var("VISPLAY_NANO").is_ok_and(|much| much == "whole") {
        std::fs::write(place.path().join("p.toml"), file).unwrap();
        return place;
    }
    for (from, to) in [
        ("\nimages = 600", "\nimages = 30"),
        ("keep_best_questions = 1000", "keep_best_questions = 16"),
        ("items = 600", "items = 12"),
        ("steps = 20", "steps = 2"),
        ("prompts_per_step = 16", "prompts_per_step = 4"),
        ("prompts_per_step = 32", "prompts_per_step = 8"),
        ("shard_rows = 256", "shard_rows = 16"),
        ("checkpoint_every = 5", "checkpoint_every = 2"),
    ] {
        change(from, to);
    }
    std::fs::write(place.path().join("p.toml"), file).unwrap();
    place
}

#[test]
fn a_round_killed_at_any_moment_has_the_same_results() {
    kill_and_resume(&place_in(Workspace::in_memory()), kills());
}

#[test]
fn a_nano_round_killed_at_any_moment_has_the_same_results() {
    kill_and_resume(
        &nano_folder(),
        kills().min(if std::env::var_os("VISPLAY_NANO").is_some() { usize::MAX } else { 6 }),
    );
}

/// Faults of a network file system: answers come late, handles are stale, replies get lost, and
/// links between folders and renames that never replace are refused.
const NETWORK_FAULTS: [(&str, i32); 5] = [
    ("FAULT_LATE", 300),
    ("FAULT_STALE", 97),
    ("FAULT_LOST_REPLY", 13),
    ("FAULT_LINK_FOLDERS", 18),
    ("FAULT_NOREPLACE", 22),
];

#[test]
fn two_workers_killed_at_any_moment_on_a_network_file_system_make_the_same_round() {
    // The faults are those of files below a folder named `store...`.
    let place = place_in(Workspace::in_memory());
    let pipeline = PIPELINE.replace("shard_rows = 5", "shard_rows = 5\nshard_tokens = 12");
    std::fs::write(place.path().join("p.toml"), pipeline).unwrap();
    let expected = run_round(&place, "alone", "2");
    let begin = |store: &str| {
        let mut command = evolve(&place, store, &["1", "--images", "source", "--threads", "1"]);
        command.env("FAULT_COUNTS", place.path().join("counts")).stdout(Stdio::piped()).stderr(Stdio::piped());
        with_faults(command, &NETWORK_FAULTS).spawn().unwrap()
    };
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let kills = std::env::var_os("VISPLAY_KILLS").map_or(8, |_| kills());
    let (mut killed, mut stores) = (0, 0);
    while killed < kills {
        stores += 1;
        assert!(stores <= 4 * kills, "the round ends before it can be killed");
        let store = format!("store-{stores}");
        let mut workers = [begin(&store), begin(&store)];
        loop {
            std::thread::sleep(Duration::from_millis(100 + dice.next() % 1500));
            let i = (dice.next() % 2) as usize;
            if workers.iter_mut().any(|worker| worker.try_wait().unwrap().is_some()) {
                break;
            }
            workers[i].kill().unwrap();
            workers[i].wait().unwrap();
            killed += 1;
            workers[i] = begin(&store);
        }
        for worker in workers {
            assert_eq!(report(&worker.wait_with_output().unwrap())["result"], expected["result"]);
        }
        assert_same_results(&place, &store, "alone");
        std::fs::remove_dir_all(place.path().join(store)).unwrap();
    }
    let counts = std::fs::read_to_string(place.path().join("counts")).unwrap();
    let sum = |kind: usize| -> u64 {
        counts.lines().map(|line| line.split(' ').nth(kind).unwrap().parse::<u64>().unwrap()).sum()
    };
    let injected = [0, 1, 2].map(sum);
    assert!(injected.iter().all(|n| *n > 0), "stale looks, lost replies, refused links: {injected:?}");
}

/// Kills and resumes a round at random moments until it has been killed this many times.
fn kill_and_resume(place: &Workspace, kills: usize) {
    let expected = run_round(place, "one", "1");
    let began = Instant::now();
    assert_eq!(run_round(place, "two", "2")["result"], expected["result"]);
    let whole_time = began.elapsed();
    assert_same_results(place, "two", "one");
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut killed, mut stores, mut moments) = (0, 0, BTreeSet::new());
    while killed < kills {
        stores += 1;
        assert!(stores <= 4 * kills, "the round ends before it can be killed");
        let store = format!("killed-{stores}");
        // Each run resumes where the one before was killed, so the kills spread over the round.
        let survived = loop {
            let mut child = begin(place, &store, if dice.share() < 0.5 { "1" } else { "2" });
            std::thread::sleep(whole_time.mul_f64(dice.share() * 0.6));
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            if output.status.success() {
                break report(&output);
            }
            killed += 1;
            moments.insert(files(place, &store, "results").len());
        };
        assert_eq!(survived["result"], expected["result"]);
        assert_same_results(place, &store, "one");
        std::fs::remove_dir_all(place.path().join(store)).unwrap();
    }
    assert!(moments.len() * 3 >= kills.min(60), "the kills are too close together in time: {moments:?}");
}

#[test]
fn two_processes_on_one_store_make_one_round() {
    let place = place_in(Workspace::in_memory());
    let expected = run_round(&place, "alone", "2");
    for (store, kill) in [("shared", false), ("widowed", true)] {
        let children = [begin(&place, store, "1"), begin(&place, store, "1")];
        let [mut first, second] = children;
        if kill {
            std::thread::sleep(Duration::from_millis(400));
            first.kill().unwrap();
        }
        let done = second.wait_with_output().unwrap();
        assert_eq!(report(&done)["result"], expected["result"]);
        let other = first.wait_with_output().unwrap();
        assert!(kill || report(&other)["result"] == expected["result"]);
        assert_same_results(&place, store, "alone");
    }
}

#[test]
fn ctrl_c_stops_a_round_soon_and_the_same_command_resumes_it() {
    let place = place_in(Workspace::in_memory());
    let began = Instant::now();
    let expected = run_round(&place, "alone", "2");
    let whole_time = began.elapsed();
    let mut stopped = 0;
    for share in [0.15, 0.35, 0.55, 0.75] {
        let mut child = begin(&place, "stopped", "2");
        std::thread::sleep(whole_time.mul_f64(share));
        let interrupted_at = Instant::now();
        interrupt(&child);
        while child.try_wait().unwrap().is_none() {
            assert!(interrupted_at.elapsed() < Duration::from_secs(20), "it does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
        let output: Output = child.wait_with_output().unwrap();
        if output.status.success() {
            break;
        }
        assert_eq!(output.status.code(), Some(130), "{}", stderr_of(&output));
        assert!(stderr_of(&output).contains("finished work is kept"), "{}", stderr_of(&output));
        assert!(stderr_of(&output).contains("run the same command again to continue"), "{}", stderr_of(&output));
        stopped += 1;
    }
    assert!(stopped > 0, "it was always quicker than the signal");
    assert_eq!(run_round(&place, "stopped", "2")["result"], expected["result"]);
    assert_same_results(&place, "stopped", "alone");
}

#[test]
fn ctrl_c_does_not_wait_for_samples_in_progress() {
    let place = place_in(Workspace::in_memory());
    let many =
        PIPELINE.replace("steps = 3", "steps = 0").replace("questions_per_image = 8", "questions_per_image = 65536");
    std::fs::write(place.path().join("p.toml"), many).unwrap();
    let mut child = begin(&place, "store", "1");
    // The action of the first questions is written just before sampling starts.
    let asks = || {
        files(&place, "store", "actions").values().any(|path| {
            std::fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("\"stage\":\"questions\""))
        })
    };
    while !asks() {
        assert!(child.try_wait().unwrap().is_none(), "{}", stderr_of(&child.wait_with_output().unwrap()));
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(500));
    let interrupted_at = Instant::now();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr_of(&output));
    assert!(interrupted_at.elapsed() < Duration::from_secs(8), "{:?}", interrupted_at.elapsed());
    assert_eq!(verify(&place, "store"), (0, BTreeSet::new()));
}

/// Returns the number of training steps in a store.
fn steps(place: &Workspace, store: &str) -> usize {
    let done = files(place, store, "results");
    let is_update = |name: &&String| {
        let action = place.path().join(store).join(name.replacen("results", "actions", 1));
        std::fs::read(action).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("\"stage\":\"update\""))
    };
    done.keys().filter(is_update).count()
}

#[test]
fn training_resumes_from_any_step_with_the_same_bytes() {
    let place = place_in(Workspace::in_memory());
    let all = "epochs = 2\nschedule = \"cosine\"\nwarmup_updates = 2\nold_logprobs = \"trainer\"\n";
    let lora = "train = \"lora\"\nlora_rank = 4\nold_logprobs = \"sampler\"\n";
    let text = "train = \"text\"\nbeta = 0.0\naggregation = \"token\"\ndrop_zero_std = true\n";
    for (name, knobs) in [("all", all), ("lora", lora), ("text", text)] {
        let [straight, resumed] = ["straight", "resumed"].map(|part| format!("{name}-{part}"));
        let kept = format!("checkpoint_every = 3\nmicro_batch_tokens = 64\n{knobs}");
        let file = PIPELINE.replace("steps = 3", "steps = 4").replace("checkpoint_every = 2\n", &kept);
        std::fs::write(place.path().join("p.toml"), file).unwrap();
        let expected = run_round(&place, &straight, "2");
        assert_eq!(steps(&place, &straight), 8);
        // Killed after each step, most of which write no checkpoint.
        let mut kills = 0;
        let done = loop {
            let before = steps(&place, &resumed);
            let mut child = begin(&place, &resumed, "2");
            while child.try_wait().unwrap().is_none() && steps(&place, &resumed) <= before {
                std::thread::sleep(Duration::from_millis(10));
            }
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            if output.status.success() {
                break report(&output);
            }
            kills += 1;
            assert!(kills < 30, "{name}: it makes no step");
        };
        assert!(kills >= 4, "{name}: {kills} kills");
        assert_eq!(done["result"], expected["result"], "{name}");
        assert_same_results(&place, &resumed, &straight);
    }
}

/// Damages a file of a store: removes it or flips a bit.
fn damage(path: &Path, dice: &mut Dice) {
    if dice.share() < 0.5 {
        return std::fs::remove_file(path).unwrap();
    }
    // Views are hard links to objects; replacing the file leaves them intact.
    let mut bytes = std::fs::read(path).unwrap();
    let place = dice.next() as usize % bytes.len();
    bytes[place] ^= 1 << (dice.next() % 8);
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn verify_names_all_damage_and_the_same_command_repairs_it() {
    let place = place_in(Workspace::in_memory());
    let expected = run_round(&place, "whole", "2");
    run_round(&place, "hurt", "2");
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for folder in ["objects", "results", "actions", "refs", "views", "cache", "objects", "results"] {
        let all: Vec<(String, PathBuf)> = files(&place, "hurt", folder).into_iter().collect();
        let hurt: BTreeSet<usize> = (0..3).map(|_| dice.next() as usize % all.len()).collect();
        hurt.iter().for_each(|&i| damage(&all[i].1, &mut dice));
        let (code, named) = verify(&place, "hurt");
        // Nothing refers to the newest ref of a name, and views and caches can be rebuilt.
        let may_be_lost = ["refs", "views", "cache"].contains(&folder);
        assert!(code == 4 || may_be_lost, "{code}");
        for &i in &hurt {
            assert!(named.contains(&all[i].0) || may_be_lost && !all[i].1.exists(), "{}: {named:?}", all[i].0);
        }
        assert_eq!(run_round(&place, "hurt", "2")["result"], expected["result"], "{folder}");
        assert_same_results(&place, "hurt", "whole");
    }
}

#[test]
fn a_round_damaged_half_way_resumes_after_verify() {
    let place = place_in(Workspace::in_memory());
    let began = Instant::now();
    let expected = run_round(&place, "whole", "2");
    let whole_time = began.elapsed();
    let mut dice = Dice(0x5851_f42d_4c95_7f2d);
    for share in [0.3, 0.5, 0.7] {
        let mut child = begin(&place, "hurt", "2");
        std::thread::sleep(whole_time.mul_f64(share));
        child.kill().unwrap();
        child.wait().unwrap();
        for folder in ["objects", "results", "actions"] {
            let all: Vec<(String, PathBuf)> = files(&place, "hurt", folder).into_iter().collect();
            if !all.is_empty() {
                damage(&all[dice.next() as usize % all.len()].1, &mut dice);
            }
        }
        verify(&place, "hurt");
    }
    assert_eq!(run_round(&place, "hurt", "2")["result"], expected["result"]);
    assert_same_results(&place, "hurt", "whole");
}

#[test]
fn a_round_is_rebuilt_with_the_same_results_or_not_at_all() {
    let place = place_in(Workspace::in_memory());
    run_round(&place, "store", "2");
    let lose = |table: &str| {
        let view = place.path().join("store/views/t/round=1").join(table);
        let file = std::fs::read_dir(view).unwrap().next().unwrap().unwrap().file_name();
        let name = file.to_string_lossy().split_once('-').unwrap().1.to_owned();
        std::fs::remove_file(place.path().join("store/objects").join(&name[..2]).join(name)).unwrap();
    };
    lose("votes");
    let other = PIPELINE.replace("low = 0.1", "low = 0.2");
    std::fs::write(place.path().join("p.toml"), other).unwrap();
    let refused = evolve(&place, "store", &["1"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", stderr_of(&refused));
    assert!(stderr_of(&refused).contains("run with other values of curriculum.low"), "{}", stderr_of(&refused));
    // Images that were added since do not change it.
    std::fs::write(place.path().join("p.toml"), PIPELINE).unwrap();
    for i in 100..130 {
        place.add(i);
    }
    let before = refs(&place, "store");
    let rebuilt = evolve(&place, "store", &["1", "--images", "source"]).output().unwrap();
    report(&rebuilt);
    assert!(stderr_of(&rebuilt).contains("parts of round 1 are missing; recomputing them"), "{}", stderr_of(&rebuilt));
    assert!(stderr_of(&rebuilt).contains("30 new images, 42 in total"), "{}", stderr_of(&rebuilt));
    let after = refs(&place, "store");
    assert!(before.iter().all(|(name, result)| after[name] == *result), "{before:?} {after:?}");
    assert_eq!(verify(&place, "store"), (0, BTreeSet::new()));
}
