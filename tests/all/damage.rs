//! Damage to a store: every kind of file, every kind of damage. `verify` names it, and the next run
//! repairs it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Workspace, stderr_of};

/// The folders of a store whose files are damaged in these tests.
const KINDS: [&str; 6] = ["objects", "actions", "results", "refs", "views", "cache"];

fn name(place: &Workspace, file: &Path) -> String {
    file.strip_prefix(place.store()).unwrap().display().to_string()
}

fn ingested() -> (Workspace, String) {
    let place = Workspace::new();
    place.fill(30);
    place.ingest();
    place.add(30);
    place.add(31);
    let done = place.ingest();
    // Files with such recent modification times are not cached, so a later run writes the cache.
    (place, done["result"].as_str().unwrap().to_owned())
}

/// Damages every file in turn, and checks that `verify` names it and that the next run repairs it.
fn check(damage: impl Fn(&Path), is_named: impl Fn(&str, &[String]) -> bool) {
    let (place, expected) = ingested();
    for kind in KINDS {
        for i in 0.. {
            let files = place.files(kind);
            let Some(file) = files.get(i) else { break };
            let name = name(&place, file);
            damage(file);
            let (code, names) = place.verify();
            assert!(is_named(&name, &names), "{name} is not among {names:?}");
            assert_eq!(code, if names.is_empty() { 0 } else { 4 });
            let done = place.ingest();
            assert_eq!(done["result"].as_str(), Some(expected.as_str()), "after damage to {name}");
            assert_eq!(place.verify(), (0, vec![]), "after the repair of {name}");
        }
    }
}

#[test]
fn a_flipped_bit_is_found_and_repaired() {
    let flip = |file: &Path| {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        // A view is a hard link to its object: damage only this name.
        fs::remove_file(file).unwrap();
        fs::write(file, bytes).unwrap();
    };
    check(flip, |name, names| names.iter().any(|n| n == name));
}

#[test]
fn a_truncated_file_is_found_and_repaired() {
    let truncate = |file: &Path| {
        let bytes = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
    };
    check(truncate, |name, names| names.iter().any(|n| n == name));
}

#[test]
fn a_deleted_file_is_found_and_repaired() {
    // A cache may be lost, and a view is restored from its object: neither counts as damage.
    let may_go = |name: &str| name.starts_with("cache/") || name.starts_with("views/");
    let last_ref = |name: &str| name.starts_with("refs/") && name.ends_with("000002.json");
    check(
        |file| fs::remove_file(file).unwrap(),
        |name, names| may_go(name) || last_ref(name) || names.iter().any(|n| n == name),
    );
}

#[test]
fn foreign_files_are_found_and_set_aside() {
    let (place, expected) = ingested();
    let hex = "ab".repeat(32);
    let strangers = [
        "notes.txt".to_owned(),
        "objects/readme".to_owned(),
        format!("objects/ab/{hex}.exe"),
        format!("objects/cd/{hex}.json"),
        format!("actions/{hex}.json"),
        format!("results/ab/{hex}.json.tmp"),
        "refs/t/images/last.json".to_owned(),
        "claims/lock".to_owned(),
        format!("claims/{hex}.lease"),
        "cache/x".to_owned(),
        "views/t/images/mine.parquet".to_owned(),
        "tmp/x".to_owned(),
    ];
    for stranger in &strangers {
        let path = place.store().join(stranger);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", place.store().join("objects/link")).unwrap();
    let (code, names) = place.verify();
    assert_eq!(code, 4);
    for stranger in strangers.iter().map(String::as_str).chain(["objects/link"]) {
        assert!(names.iter().any(|n| n == stranger), "{stranger} is not among {names:?}");
    }
    assert_eq!(place.verify(), (0, vec![]));
    assert_eq!(place.ingest()["result"].as_str(), Some(expected.as_str()));
    assert_eq!(place.files("quarantine").len(), strangers.len(), "set aside, not deleted");
}

#[test]
fn a_damaged_format_file_is_repaired_and_a_newer_one_rejected() {
    let (place, expected) = ingested();
    let format = place.store().join("FORMAT");
    for bad in [&b"visplay stare 1\n"[..], b"", b"visplay store 1"] {
        fs::write(&format, bad).unwrap();
        let output = place.command(&["ingest", "source"]).output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{}", stderr_of(&output));
        assert!(stderr_of(&output).contains("FORMAT"), "{}", stderr_of(&output));
        assert_eq!(place.verify().1, ["FORMAT"]);
        assert_eq!(place.ingest()["result"].as_str(), Some(expected.as_str()));
    }
    fs::remove_file(&format).unwrap();
    let output = place.command(&["status"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(place.verify().1, ["FORMAT"]);
    assert_eq!(place.verify(), (0, vec![]));
    fs::write(&format, "visplay store 2\n").unwrap();
    for command in [&["status"][..], &["ingest", "source"], &["verify", "--full"], &["gc"]] {
        let output = place.command(command).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert!(stderr_of(&output).contains("has format 2"), "{}", stderr_of(&output));
    }
}

#[test]
fn damage_is_reported_when_a_file_is_read() {
    let (place, _) = ingested();
    let biggest = place.files("objects").into_iter().max_by_key(|f| f.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&biggest).unwrap();
    bytes[100] ^= 1;
    fs::write(&biggest, bytes).unwrap();
    let digest = biggest.file_stem().unwrap().to_str().unwrap().to_owned();
    let output = place.command(&["show", &digest]).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(
        stderr_of(&output).contains(&digest) && stderr_of(&output).contains("visplay verify"),
        "{}",
        stderr_of(&output)
    );
}

#[test]
fn gc_deletes_only_files_that_no_ref_leads_to() {
    let (place, _) = ingested();
    let garbage = |arguments: &[&str]| -> Vec<String> {
        let report = place.json(&[&["gc"], arguments].concat());
        let files = report["garbage"].as_array().unwrap().iter();
        files.map(|f| f["name"].as_str().unwrap().to_owned()).filter(|n| !n.starts_with("cache/")).collect()
    };
    assert_eq!(garbage(&["--delete", "--grace", "0"]), Vec::<String>::new());
    fs::remove_dir_all(place.store().join("refs")).unwrap();
    assert_eq!(garbage(&["--delete"]), Vec::<String>::new(), "all files were used today");
    let dry = garbage(&["--grace", "0"]);
    assert!(dry.len() > 10);
    assert!(!place.files("objects").is_empty());
    // Views are deleted together with their objects, so a dry run does not list them.
    let wet = garbage(&["--grace", "0", "--delete"]);
    assert!(dry.iter().all(|name| wet.contains(name)));
    let remaining: Vec<PathBuf> = ["objects", "actions", "results"].iter().flat_map(|f| place.files(f)).collect();
    assert_eq!(remaining, Vec::<PathBuf>::new());
    assert_eq!(place.ingest()["images"], 32);
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn a_lost_part_is_recomputed_although_the_sources_have_grown() {
    let (place, _) = ingested();
    let sources = place.files("views/t/sources");
    assert_eq!(sources.len(), 2);
    let digest = sources[0].file_stem().unwrap().to_str().unwrap().rsplit('-').next().unwrap().to_owned();
    let object = place.store().join(format!("objects/{}/{digest}.parquet", &digest[..2]));
    fs::remove_file(&object).unwrap();
    fs::remove_file(&sources[0]).unwrap();
    let why = place.json(&["why", "ingest", "source"]);
    assert_eq!(why["broken"].as_array().unwrap().len(), 2, "{why}");
    place.add(60);
    let done = place.ingest();
    assert_eq!((done["images"].as_u64(), done["new"].as_u64()), (Some(33), Some(1)));
    assert!(object.exists());
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn a_lost_ref_is_restored_after_the_options_changed() {
    let (place, _) = ingested();
    let small = fs::read_to_string(place.path().join("small.toml")).unwrap();
    fs::write(place.path().join("small.toml"), small.replace("shard_rows = 8", "shard_rows = 9")).unwrap();
    place.ingest();
    fs::remove_file(place.store().join("refs/t/images/000002.json")).unwrap();
    assert_eq!(place.verify().1, ["refs/t/images/000002.json"]);
    place.ingest();
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn verify_and_a_run_do_not_disturb_each_other() {
    let expected = {
        let alone = Workspace::new();
        alone.fill(200);
        alone.ingest()
    };
    let place = Workspace::new();
    place.fill(200);
    for _ in 0..5 {
        let _ = fs::remove_dir_all(place.store());
        fs::create_dir(place.store()).unwrap();
        fs::write(place.store().join("FORMAT"), "visplay store 1\n").unwrap();
        let mut run = place.command(&["ingest", "source"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        while run.try_wait().unwrap().is_none() {
            assert_eq!(place.verify(), (0, vec![]));
        }
        assert!(run.wait().unwrap().success());
        assert_eq!(place.ingest()["result"], expected["result"]);
    }
}

#[test]
fn gc_during_a_run_deletes_nothing_that_the_run_needs() {
    let (place, _) = ingested();
    let expected = place.ingest();
    let week_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7 * 24 * 3600);
    for _ in 0..5 {
        // The state after a run that was interrupted before it wrote its ref, a week ago.
        fs::remove_dir_all(place.store().join("refs")).unwrap();
        for file in ["objects", "actions", "results"].iter().flat_map(|f| place.files(f)) {
            fs::File::open(file).unwrap().set_modified(week_ago).unwrap();
        }
        let mut run = place.command(&["ingest", "source"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        while run.try_wait().unwrap().is_none() {
            place.command(&["gc", "--delete", "--quiet"]).output().unwrap();
        }
        assert!(run.wait().unwrap().success());
        assert_eq!(place.ingest()["images"], expected["images"]);
        assert_eq!(place.verify(), (0, vec![]));
    }
}
