//! Faults of unusual file systems (SMB, BeeGFS, 9p, FUSE), of containers that share a store, and of
//! clocks that differ. `tests/data/file_system_faults.c` lets the system calls of the command fail.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;

use crate::support::{VISPLAY, Workspace, stderr_of};

const EPERM: i32 = 1;
const EIO: i32 = 5;
const EBADF: i32 = 9;
const EACCES: i32 = 13;
const EEXIST: i32 = 17;
const EXDEV: i32 = 18;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EMLINK: i32 = 31;
const ENOSYS: i32 = 38;
const ENOTEMPTY: i32 = 39;
const EOPNOTSUPP: i32 = 95;
const EDQUOT: i32 = 122;

/// Errors by which file systems say that they lack an operation.
const LACKING: [i32; 6] = [EINVAL, ENOSYS, EOPNOTSUPP, EPERM, EXDEV, EMLINK];

/// The library of faults, compiled once.
static FAULTS: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("faults.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/file_system_faults.c");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([source, "-ldl"]).status();
    assert!(compiled.expect("a C compiler").success());
    (folder, library)
});

/// Adds faults to a command.
pub fn with_faults(mut command: Command, faults: &[(&str, i32)]) -> Command {
    command.env("LD_PRELOAD", &FAULTS.1);
    command.envs(faults.iter().map(|(name, value)| (name, value.to_string())));
    command
}

fn run(place: &Workspace, arguments: &[&str], faults: &[(&str, i32)]) -> Output {
    with_faults(place.command(arguments), faults).output().unwrap()
}

/// Runs a command that has to succeed despite the faults.
fn succeed(place: &Workspace, arguments: &[&str], faults: &[(&str, i32)]) -> Output {
    let output = run(place, arguments, faults);
    assert!(output.status.success(), "{arguments:?} with {faults:?}: {}", stderr_of(&output));
    output
}

fn ingest(place: &Workspace, faults: &[(&str, i32)]) -> Value {
    serde_json::from_slice(&succeed(place, &["ingest", "source", "--json"], faults).stdout).unwrap()
}

/// Runs a command that has to fail with exit code 1, and returns its message.
fn fail(place: &Workspace, arguments: &[&str], faults: &[(&str, i32)]) -> String {
    let output = run(place, arguments, faults);
    assert_eq!(output.status.code(), Some(1), "{arguments:?} with {faults:?}: {}", stderr_of(&output));
    stderr_of(&output)
}

fn filled(count: u32) -> (Workspace, Value) {
    let place = Workspace::in_memory();
    place.fill(count);
    let expected = place.ingest();
    fs::remove_dir_all(place.store()).unwrap();
    (place, expected)
}

/// The files that are created once and never replaced, with their inodes and contents.
fn create_only_files(place: &Workspace) -> BTreeMap<PathBuf, (u64, Vec<u8>)> {
    let files = ["FORMAT", "results", "refs"].iter().flat_map(|folder| place.files(folder));
    let read = |file: PathBuf| Some((file.clone(), (fs::metadata(&file).ok()?.ino(), fs::read(&file).ok()?)));
    files.filter_map(read).collect()
}

#[test]
fn a_store_works_without_noreplace_and_without_hard_links() {
    let (place, expected) = filled(20);
    let alone = LACKING.map(|error| vec![("FAULT_NOREPLACE", error)]);
    let both = LACKING.map(|error| vec![("FAULT_NOREPLACE", error), ("FAULT_LINK", error)]);
    let mixed = LACKING.map(|error| vec![("FAULT_NOREPLACE", EINVAL), ("FAULT_LINK", error)]);
    for faults in alone.iter().chain(&both).chain(&mixed) {
        let done = ingest(&place, faults);
        assert_eq!(done["result"], expected["result"], "{faults:?}");
        // The second run finds everything, and neither replaces nor leaves anything.
        let before = create_only_files(&place);
        assert_eq!(ingest(&place, faults)["result"], expected["result"], "{faults:?}");
        assert_eq!(create_only_files(&place), before, "{faults:?}");
        assert_eq!(fs::read_dir(place.store().join("tmp")).unwrap().count(), 0, "{faults:?}");
        assert_eq!(place.verify(), (0, vec![]), "{faults:?}");
        fs::remove_dir_all(place.store()).unwrap();
    }
}

#[test]
fn without_any_create_only_rename_the_message_names_what_is_missing() {
    let (place, _) = filled(2);
    for error in LACKING {
        let faults = [("FAULT_NOREPLACE", error), ("FAULT_LINK", error), ("FAULT_RENAME_FOLDER", error)];
        let message = fail(&place, &["ingest", "source"], &faults);
        assert!(message.contains("RENAME_NOREPLACE") && message.contains("hard links"), "{message}");
        assert!(message.contains("FORMAT") && message.contains("--store"), "{message}");
        assert!(!message.contains("permission"), "{message}");
    }
    // A folder that is always there, though nothing is in it.
    for error in [EEXIST, ENOTEMPTY] {
        let faults = [("FAULT_NOREPLACE", EINVAL), ("FAULT_LINK", EIO), ("FAULT_RENAME_FOLDER", error)];
        let message = fail(&place, &["ingest", "source"], &faults);
        let named = ["RENAME_NOREPLACE", "Invalid argument", "Input/output error", "always taken"];
        assert!(named.iter().all(|text| message.contains(text)), "{message}");
    }
    // A full disk or missing permissions are not taken for a missing feature.
    for (error, text) in [(ENOSPC, "No space left"), (EACCES, "Permission denied"), (EROFS, "Read-only")] {
        for faults in [
            vec![("FAULT_NOREPLACE", error)],
            vec![("FAULT_NOREPLACE", EINVAL), ("FAULT_LINK", error)],
            vec![("FAULT_NOREPLACE", EINVAL), ("FAULT_LINK", EPERM), ("FAULT_RENAME_FOLDER", error)],
        ] {
            let message = fail(&place, &["ingest", "source"], &faults);
            assert!(message.contains(text) && !message.contains("RENAME_NOREPLACE"), "{message}");
        }
    }
}

/// Starts a worker and returns it.
fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for workers, and checks that each shard was computed once.
fn check_shared_work(place: &Workspace, workers: Vec<Child>, expected: &Value) {
    let mut computed = 0;
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr_of(&output));
        let done: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&done["result"], &done["ref"]), (&expected["result"], &expected["ref"]));
        computed += done["shards_made"].as_u64().unwrap();
    }
    assert_eq!(computed, expected["shards_made"].as_u64().unwrap(), "each shard is computed once");
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn nothing_is_replaced_in_races_without_noreplace_and_hard_links() {
    let (place, expected) = filled(60);
    for pause in [0, 2_000, 20_000] {
        let faults = [("FAULT_NOREPLACE", EINVAL), ("FAULT_LINK", EPERM), ("FAULT_PAUSE", pause)];
        let command = || with_faults(place.command(&["ingest", "source", "--json"]), &faults);
        let mut workers: Vec<Child> = (0..4).map(|_| start(command())).collect();
        let mut seen = BTreeMap::new();
        while workers.iter_mut().any(|worker| worker.try_wait().unwrap().is_none()) {
            for (file, state) in create_only_files(&place) {
                let first = seen.entry(file.clone()).or_insert_with(|| state.clone());
                assert_eq!(*first, state, "{} was replaced", file.display());
            }
        }
        check_shared_work(&place, workers, &expected);
        fs::remove_dir_all(place.store()).unwrap();
    }
}

#[test]
fn runs_killed_without_noreplace_and_hard_links_resume_to_the_same_result() {
    let (place, expected) = filled(20);
    let faults = [("FAULT_NOREPLACE", ENOSYS), ("FAULT_LINK", EOPNOTSUPP), ("FAULT_PAUSE", 10_000)];
    let command = || with_faults(place.command(&["ingest", "source", "--json"]), &faults);
    for moment in 0..20 {
        let mut before = BTreeMap::new();
        for _ in 0..3 {
            let mut workers = [(); 2].map(|()| start(command()));
            std::thread::sleep(Duration::from_millis(10 + 23 * moment));
            for worker in &mut workers {
                worker.kill().unwrap();
                worker.wait().unwrap();
            }
            let after = create_only_files(&place);
            assert!(before.iter().all(|(file, state)| after.get(file) == Some(state)), "a file was replaced");
            before = after;
        }
        assert_eq!(ingest(&place, &faults)["result"], expected["result"]);
        assert_eq!(place.verify(), (0, vec![]));
        fs::remove_dir_all(place.store()).unwrap();
    }
}

/// The weights and the configuration of a small model, and a copy that the command exported.
fn export(place: &Workspace, faults: &[(&str, i32)], more: &[&str]) -> Output {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/model/sharded");
    let _ = fs::remove_dir_all(place.path().join("exported"));
    let arguments = [&["model", "export", model, "exported"], more].concat();
    run(place, &arguments, faults)
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

#[test]
fn a_folder_that_cannot_be_flushed_is_no_error() {
    let (place, expected) = filled(20);
    for error in [EINVAL, EOPNOTSUPP, ENOSYS, EBADF] {
        let faults = [("FAULT_FSYNC_FOLDER", error)];
        assert_eq!(ingest(&place, &faults)["result"], expected["result"]);
        assert_eq!(place.verify(), (0, vec![]));
        fs::write(place.files("results").pop().unwrap(), "damaged").unwrap();
        let verified = run(&place, &["verify", "--full"], &faults);
        assert_eq!(verified.status.code(), Some(4), "{}", stderr_of(&verified));
        succeed(&place, &["ingest", "source"], &faults);
        fs::remove_dir_all(place.store()).unwrap();
        let exported = export(&place, &faults, &[]);
        assert!(exported.status.success(), "{error}: {}", stderr_of(&exported));
    }
}

#[test]
fn a_folder_whose_flush_fails_is_an_error() {
    let (place, _) = filled(2);
    for error in [EIO, ENOSPC, EDQUOT, EROFS] {
        let faults = [("FAULT_FSYNC_FOLDER", error)];
        let message = fail(&place, &["ingest", "source"], &faults);
        assert!(message.contains("cannot flush the folder"), "{message}");
        assert_eq!(export(&place, &faults, &[]).status.code(), Some(1));
    }
}

#[test]
fn a_view_that_cannot_be_linked_is_copied() {
    let (place, expected) = filled(20);
    let later = place.path().join("later.png");
    fs::rename(place.add(40), &later).unwrap();
    for error in [EXDEV, EMLINK, EIO, EPERM, EOPNOTSUPP, ENOSYS, EINVAL, EACCES] {
        let faults = &[("FAULT_LINK", error)];
        assert_eq!(ingest(&place, faults)["result"], expected["result"], "{error}");
        let views = place.files("views");
        assert!(!views.is_empty());
        for view in &views {
            assert_eq!(fs::metadata(view).unwrap().nlink(), 1, "{error}: a copy");
        }
        assert_eq!(place.verify(), (0, vec![]));
        // Neither a second run nor the collection of garbage touches the copies.
        ingest(&place, faults);
        place.json(&["gc", "--delete", "--grace", "0"]);
        assert_eq!(place.files("views"), views);
        // A larger table gets a view of its own files.
        let added = place.source().join("later.png");
        fs::copy(&later, &added).unwrap();
        ingest(&place, faults);
        assert!(place.files("views").len() > views.len());
        assert_eq!(place.verify(), (0, vec![]));
        fs::remove_file(added).unwrap();
        fs::remove_dir_all(place.store()).unwrap();
    }
}

#[test]
fn views_on_another_disk_are_copied() {
    let (place, expected) = filled(20);
    place.ingest();
    assert!(place.json(&["status"])["room"].get("views").is_none(), "hard links take no space");
    fs::remove_dir_all(place.store()).unwrap();
    let faults = [("FAULT_LINK", EXDEV), ("FAULT_RENAME_VIEW", EXDEV)];
    // Several processes write the same views at once.
    let command = || with_faults(place.command(&["ingest", "source", "--json"]), &faults);
    let workers = (0..3).map(|_| start(command())).collect();
    check_shared_work(&place, workers, &expected);
    let views = place.files("views");
    let is_copy = |view: &PathBuf| fs::metadata(view).unwrap().nlink() == 1 && view.extension().is_some();
    assert!(!views.is_empty() && views.iter().all(is_copy), "{views:?}");
    assert_eq!(place.json(&["status"])["room"]["views"]["files"], views.len());
    // Any other error of the rename is one of the command, and leaves no copy behind.
    fs::remove_dir_all(place.store().join("views")).unwrap();
    let message = fail(&place, &["ingest", "source"], &[("FAULT_LINK", EXDEV), ("FAULT_RENAME_VIEW", ENOSPC)]);
    assert!(message.contains("No space left"), "{message}");
    assert_eq!((place.files("views"), place.files("tmp")), (vec![], vec![]));
    // A copy that a killed process left behind is garbage.
    ingest(&place, &faults);
    let left = views[0].with_file_name(".elsewhere-1-2-3");
    fs::write(&left, "half").unwrap();
    ingest(&place, &faults);
    assert_eq!(place.verify(), (0, vec![]));
    place.json(&["gc", "--delete", "--grace", "0"]);
    assert_eq!(place.files("views"), views);
}

#[test]
fn views_behind_a_link_to_another_disk_are_copied() {
    let (place, expected) = filled(20);
    let other = tempfile::tempdir().unwrap();
    if fs::metadata(other.path()).unwrap().dev() == fs::metadata(place.path()).unwrap().dev() {
        eprintln!("skipped: /dev/shm and the folder of temporary files are on one disk");
        return;
    }
    place.ingest();
    let views = place.files("views");
    fs::remove_dir_all(place.store().join("views")).unwrap();
    std::os::unix::fs::symlink(other.path(), place.store().join("views")).unwrap();
    assert_eq!(ingest(&place, &[])["result"], expected["result"]);
    assert_eq!(place.files("views"), views);
}

#[test]
fn containers_that_share_a_host_name_share_the_work() {
    let unshare = |way: &[&str], kind: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(way).args(kind);
        command
    };
    // Without root, and for root in many containers, only a new user namespace permits the others.
    let ways: [&[&str]; 2] = [&[], &["--map-root-user"]];
    let (place, expected) = filled(60);
    let kinds: [&[&str]; 4] = [
        &["--pid", "--fork", "--mount-proc"],
        &["--pid", "--fork"],
        &["--pid", "--time", "--boottime", "100000", "--fork", "--mount-proc"],
        &["--time", "--boottime", "100000", "--fork"],
    ];
    let mut tried = 0;
    for kind in kinds {
        let is_permitted =
            |way: &&&[&str]| unshare(way, kind).arg("true").output().is_ok_and(|output| output.status.success());
        let Some(way) = ways.iter().find(is_permitted) else {
            eprintln!("skipped: this system does not permit unshare {}", kind.join(" "));
            continue;
        };
        tried += 1;
        let inside = || {
            let outer = place.command(&["ingest", "source", "--json"]);
            let mut command = unshare(way, kind);
            command.arg(VISPLAY).args(outer.get_args()).current_dir(place.path()).env("VISPLAY_STORE", place.store());
            command
        };
        let workers = vec![
            start(inside()),
            start(place.command(&["ingest", "source", "--json"])),
            start(inside()),
            start(inside()),
        ];
        check_shared_work(&place, workers, &expected);
        fs::remove_dir_all(place.store()).unwrap();
    }
    let is_ci = ["CI", "VISPLAY_CI"].iter().any(|name| std::env::var_os(name).is_some());
    assert!(tried > 0 || !is_ci, "unshare must be permitted where CI or VISPLAY_CI is set");
    if tried == 0 {
        eprintln!("NOTHING WAS TESTED: this system permits no new PID or time namespace");
    }
}

#[test]
fn weights_that_cannot_be_mapped_are_read() {
    let (place, _) = filled(2);
    let exported = place.path().join("exported");
    for more in [&[][..], &["--dtype", "bf16"]] {
        assert!(export(&place, &[], more).status.success());
        let expected = contents(&exported);
        for error in [ENODEV, EINVAL, EPERM, EACCES, ENOSYS, EOPNOTSUPP] {
            let shared = ("FAULT_MMAP_SHARED", error);
            for faults in [vec![shared], vec![shared, ("FAULT_MMAP_PRIVATE", error)]] {
                let output = export(&place, &faults, more);
                assert!(output.status.success(), "{faults:?}: {}", stderr_of(&output));
                assert_eq!(contents(&exported), expected, "{faults:?}");
            }
        }
    }
}

#[test]
fn gc_refuses_to_judge_by_a_wrong_clock() {
    let (place, _) = filled(20);
    place.ingest();
    // A round in progress: nothing names its results yet.
    fs::remove_dir_all(place.store().join("refs")).unwrap();
    let objects = place.files("objects");
    let times = Regex::new(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC").unwrap();
    let hour = 3600;
    for offset in [48 * hour, -48 * hour, hour + 60, -hour - 60, 3650 * 24 * hour] {
        for arguments in [&["gc", "--delete"][..], &["gc", "--delete", "--grace", "0"], &["gc"]] {
            let message = fail(&place, arguments, &[("FAULT_CLOCK", offset)]);
            assert_eq!(times.find_iter(&message).count(), 2, "both times: {message}");
            assert!(message.contains("hint: set the clock"), "{message}");
            assert_eq!(place.files("objects"), objects);
        }
    }
    for offset in [0, hour - 60, 60 - hour] {
        succeed(&place, &["gc", "--delete"], &[("FAULT_CLOCK", offset)]);
        assert_eq!(place.files("objects"), objects);
    }
    assert_eq!(fs::read_dir(place.store().join("tmp")).unwrap().count(), 0);
}

#[test]
fn temporary_files_are_not_judged_by_a_wrong_clock() {
    // A worker may publish its temporary file just before it is killed: another attempt is made.
    let kill_while_writing = || {
        let (place, _) = filled(20);
        let mut worker = start(with_faults(place.command(&["ingest", "source"]), &[("FAULT_PAUSE", 200_000)]));
        while place.files("tmp").is_empty() && worker.try_wait().unwrap().is_none() {}
        worker.kill().unwrap();
        worker.wait().unwrap();
        let left = place.files("tmp");
        (!left.is_empty()).then_some((place, left))
    };
    let (place, left) = std::iter::repeat_with(kill_while_writing).take(20).flatten().next().unwrap();
    ingest(&place, &[("FAULT_CLOCK", 48 * 3600)]);
    assert_eq!(place.files("tmp"), left);
    // An old one is removed.
    let file = fs::File::open(&left[0]).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).unwrap();
    ingest(&place, &[]);
    assert!(!left[0].exists());
}

#[test]
fn a_source_file_that_changed_just_now_is_not_cached_by_a_wrong_clock() {
    let cached = |offset| {
        let (place, _) = filled(6);
        ingest(&place, &[("FAULT_CLOCK", offset)]);
        place.files("cache").iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>()
    };
    let checksum_only = 32;
    for offset in [0, 10, 48 * 3600] {
        assert_eq!(cached(offset), checksum_only, "the clock is {offset} s ahead");
    }
}
