//! Retention: finished rounds lose what can be recomputed, and every command gives what it gave
//! before.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use serde_json::{Value, json};
use visplay::store::{ActionKey, ObjectKind, Output, StageResult, Store};
use visplay::tables::{self, PROFILE, RewardRow, TableRow, TableWriter};

use crate::round_crash::{assert_same_results, files, results, verify};
use crate::rounds::{PIPELINE, evolve, place_in, report};
use crate::support::{VISPLAY, Workspace, stderr_of};

const KEEP_ALL: &str = "[retention]\ncheckpoints = \"all\"\nmodels = \"all\"\n";

/// Returns a folder with the pipelines `p.toml`, with the default retention, and `all.toml`, which
/// keeps everything. Every round becomes current.
fn place_of(workspace: Workspace) -> Workspace {
    let place = place_in(workspace);
    let pipeline = PIPELINE.replace("keep_best = true", "keep_best = false");
    std::fs::write(place.path().join("p.toml"), &pipeline).unwrap();
    std::fs::write(place.path().join("all.toml"), format!("{pipeline}{KEEP_ALL}")).unwrap();
    place
}

/// Returns a folder with the store `store` of three rounds with the default retention.
fn place_with_rounds() -> Workspace {
    let place = place_of(Workspace::in_memory());
    report(&evolve(&place, "store", &["3", "--images", "source"]).output().unwrap());
    place
}

/// Runs the same rounds in the store `all`, which keeps everything.
fn add_complete_store(place: &Workspace) {
    run(place, &["evolve-round", "3", "--images", "source", "--pipeline", "all.toml", "--store", "all"]);
}

/// Runs a command that must succeed, with `--json`.
fn run(place: &Workspace, arguments: &[&str]) -> Value {
    let output = command(place, arguments).arg("--json").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr_of(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn command(place: &Workspace, arguments: &[&str]) -> Command {
    let mut command = Command::new(VISPLAY);
    command.args(arguments).env_remove("VISPLAY_STORE").current_dir(place.path());
    command
}

/// Copies a store by hard links: nothing in a store is changed in place.
fn copy(place: &Workspace, from: &str, to: &str) {
    let copied = Command::new("cp").args(["-al", from, to]).current_dir(place.path()).status().unwrap();
    assert!(copied.success());
}

/// Returns the names of the objects of a store that are tensors.
fn tensors(place: &Workspace, store: &str) -> BTreeSet<String> {
    files(place, store, "objects").into_keys().filter(|name| name.ends_with(".safetensors")).collect()
}

/// Returns the objects that a store has notes on.
fn noted(place: &Workspace, store: &str) -> BTreeSet<String> {
    let object = |note: String| note.replacen("dropped/", "objects/", 1).trim_end_matches(".json").to_owned();
    files(place, store, "dropped").into_keys().map(object).collect()
}

/// Returns the bytes of all files of a store.
fn contents(place: &Workspace, store: &str) -> BTreeMap<String, Vec<u8>> {
    let all = files(place, store, "").into_iter().filter(|(name, _)| !name.starts_with("logs/"));
    all.map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
}

fn size(place: &Workspace, store: &str, names: &BTreeSet<String>) -> u64 {
    names.iter().map(|name| std::fs::metadata(place.path().join(store).join(name)).unwrap().len()).sum()
}

/// Returns the names and sizes of the tensors of a model.
fn model(place: &Workspace, store: &str, name: &str) -> BTreeMap<String, u64> {
    let shown = run(place, &["show", name, "--store", store]);
    let outputs = shown["result"]["outputs"].as_array().unwrap().iter().filter(|output| output["role"] == "weights");
    let name = |digest: &str| format!("objects/{}/{digest}.safetensors", &digest[..2]);
    outputs
        .map(|output| (name(output["object"]["digest"].as_str().unwrap()), output["bytes"].as_u64().unwrap()))
        .collect()
}

#[test]
fn finished_rounds_keep_their_tables_and_the_models_that_are_needed() {
    let place = place_with_rounds();
    add_complete_store(&place);
    // The same results, and so the same keys: retention is not part of them.
    assert_same_results(&place, "store", "all");
    let (kept, all) = (tensors(&place, "store"), tensors(&place, "all"));
    assert!(kept.is_subset(&all) && noted(&place, "all").is_empty());
    assert_eq!(noted(&place, "store"), all.difference(&kept).cloned().collect());

    // The base model, the Reasoner of each round, and the Questioner of the current one.
    let current = 3;
    assert_eq!(run(&place, &["status", "--store", "store"])["current"]["t"], json!(current));
    let named = |names: Vec<String>| -> BTreeMap<String, u64> {
        names.iter().flat_map(|name| model(&place, "store", name)).collect()
    };
    let reasoners = (1..=3).map(|round| format!("t/round-{round}/reasoner"));
    let expected = named(reasoners.chain([format!("t/round-{current}/questioner")]).collect());
    let base: BTreeSet<String> = base_weights(&place, "store");
    assert_eq!(kept, expected.keys().cloned().chain(base).collect());
    let current_models: u64 =
        named(["questioner", "reasoner"].map(|role| format!("t/round-{current}/{role}")).into()).values().sum();
    assert!(size(&place, "store", &kept) <= 3 * current_models, "{} {current_models}", size(&place, "store", &kept));
    assert!(size(&place, "all", &all) > 3 * size(&place, "store", &kept));

    // Finished rounds are found, and nothing is recomputed or dropped again.
    let before = contents(&place, "store");
    let again = report(&evolve(&place, "store", &["3"]).output().unwrap());
    assert_eq!((&again["found"], contents(&place, "store") == before), (&json!(true), true));
    let gc = |store: &str, more: &[&str]| run(&place, &[&["gc", "--store", store], more].concat());
    assert_eq!(gc("store", &["--grace", "0"])["dropped"], json!([]));

    // `gc` keeps what the pipeline file asked for; a store of an earlier version says nothing.
    assert_eq!(gc("all", &["--delete", "--grace", "0"])["dropped"], json!([]));
    std::fs::remove_file(place.path().join("all/retention/t.json")).unwrap();
    assert_eq!(gc("all", &["--delete"])["dropped"], json!([]), "the grace period");
    assert_eq!(gc("all", &["--delete", "--grace", "0", "--keep-checkpoints"])["dropped"], json!([]));
    let listed = gc("all", &["--grace", "0"]);
    assert_eq!(listed["dropped"].as_array().unwrap().len(), all.len() - kept.len());
    assert_eq!(tensors(&place, "all"), all);
    let space = run(&place, &["status", "--space", "--store", "all"]);
    assert_eq!(space["droppable"]["bytes"], listed["dropped_bytes"]);
    assert_eq!(gc("all", &["--delete", "--grace", "0"])["dropped"], listed["dropped"]);
    assert_eq!((tensors(&place, "all"), noted(&place, "all")), (kept.clone(), noted(&place, "store")));
    assert_same_results(&place, "all", "store");
    let verified = run(&place, &["verify", "--full", "--store", "all"]);
    assert_eq!(
        (&verified["dropped"], &verified["dropped_bytes"]),
        (&json!(all.len() - kept.len()), &listed["dropped_bytes"])
    );

    // The account of the space adds up.
    let space = run(&place, &["status", "--space", "--store", "store"]);
    let uses = space["uses"].as_object().unwrap();
    let on_disk: u64 = files(&place, "store", "")
        .into_iter()
        .map(|(name, path)| (name, std::fs::metadata(path).unwrap()))
        // A view is a hard link to its object, unless the object was written again since.
        .filter(|(name, meta)| !name.starts_with("views/") || meta.nlink() == 1)
        .map(|(_, meta)| meta.len())
        .sum();
    assert_eq!(uses.values().map(|part| part["bytes"].as_u64().unwrap()).sum::<u64>(), on_disk, "{space}");
    assert_eq!((&space["total"]["bytes"], &space["droppable"]["files"]), (&json!(on_disk), &json!(0)));
    assert_eq!(
        (&space["dropped"]["files"], &space["dropped"]["bytes"]),
        (&verified["dropped"], &verified["dropped_bytes"])
    );
    assert_eq!(uses["models of the current rounds"]["bytes"], json!(current_models));
    for part in ["base models", "models of other rounds", "images", "table answers", "actions and results"] {
        assert!(uses[part]["bytes"].as_u64().unwrap() > 0, "{part}: {space}");
    }
    let absent = ["checkpoints within trainings", "optimizer states", "objects of no result", "foreign files"];
    assert!(absent.iter().all(|part| !uses.contains_key(*part)), "{space}");
    let text = command(&place, &["status", "--space", "--store", "store"]).output().unwrap();
    assert!(String::from_utf8_lossy(&text.stdout).contains("were dropped and can be recomputed"), "{text:?}");
}

/// Returns the weights of the base model, which has no ref of its own.
fn base_weights(place: &Workspace, store: &str) -> BTreeSet<String> {
    let store = Store::open(&place.path().join(store)).unwrap();
    let all = store.results().unwrap();
    let import = all.iter().find(|result| store.action(result.action).unwrap().stage == "model.import").unwrap();
    import.outputs_of("weights").map(|output| output.object.name()).collect()
}

/// Replays a target and checks that every result has the recorded bytes.
fn assert_replayed(place: &Workspace, store: &str, target: &str) -> usize {
    let scratch = place.path().join("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    let start = ["replay", target, "--pipeline", "p.toml", "--images", "source", "--store", store];
    let replayed = run(place, &[&start[..], &["--scratch", "scratch"]].concat());
    let results = replayed["results"].as_array().unwrap();
    assert!(results.iter().all(|result| result["level"] == "bits"), "{target}: {replayed}");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
    results.len()
}

/// Returns the training steps of a round in order: those of the Questioner, then the Reasoner's.
fn steps(place: &Workspace, store: &str, round: u32) -> Vec<StageResult> {
    let opened = Store::open(&place.path().join(store)).unwrap();
    let head = opened.head("t", &format!("round-{round:04}/round")).unwrap().unwrap();
    let read = |key: &ActionKey| opened.result(*key).unwrap().unwrap();
    let upstream = read(&head.result).upstream;
    let is_step = |result: &StageResult| opened.action(result.action).unwrap().stage == "update";
    upstream.iter().map(read).filter(is_step).collect()
}

#[test]
fn every_command_gives_after_a_drop_what_it_gave_before() {
    let place = place_with_rounds();
    let before = contents(&place, "store");
    for round in 1..=3 {
        assert!(assert_replayed(&place, "store", &format!("t/round-{round}")) > 20);
    }
    // Each step by itself: the first, those with a checkpoint that was dropped, and the next ones.
    let steps = steps(&place, "store", 2);
    assert_eq!(steps.len(), 6);
    let has_checkpoint: Vec<bool> = steps.iter().map(|step| step.outputs_of("optimizer").next().is_some()).collect();
    assert_eq!(has_checkpoint, [false, true, true, false, true, true]);
    for step in &steps {
        assert_eq!(assert_replayed(&place, "store", &step.action.to_string()), 1);
    }
    // What was sampled with a model that is gone, alone and beside results that are replayed too.
    assert!(assert_replayed(&place, "store", "t/round-1/questions") > 3);
    for seed in ["1", "2", "3"] {
        let start =
            ["replay", "t/round-2", "--sample", "6", "--seed", seed, "--pipeline", "p.toml", "--images", "source"];
        let replayed = run(&place, &[&start[..], &["--store", "store"]].concat());
        assert!(replayed["results"].as_array().unwrap().iter().all(|result| result["level"] == "bits"), "{replayed}");
    }
    // An object that is gone is still known by its digest.
    let optimizer = steps[1].outputs_of("optimizer").next().unwrap().object;
    assert!(!place.store().join(optimizer.name()).exists());
    assert_eq!(assert_replayed(&place, "store", &optimizer.digest.to_string()), 1);
    let shown = run(&place, &["show", &optimizer.digest.to_string(), "--store", "store"]);
    assert_eq!(shown["dropped"]["bytes"], shown["bytes"]);
    // Lineage: the weights after a step in the middle are not kept, the trained model is.
    let lineage = run(&place, &["lineage", &steps[3].action.to_string(), "--store", "store"]);
    assert!(lineage.is_object());
    for round in ["1", "2", "3"] {
        run(&place, &["audit", round, "--pipeline", "p.toml", "--store", "store"]);
    }
    assert!(contents(&place, "store") == before, "replay, lineage and audit change nothing");

    // A branch from a round whose Questioner is gone recomputes it, and continues as it would have.
    add_complete_store(&place);
    let mut ends = Vec::new();
    for (store, pipeline) in [("store", "p.toml"), ("all", "all.toml")] {
        let file = format!("{store}-branch.toml");
        let start = ["branch", "b", "--from", "round-1", "--set", "round.seed=5", "--pipeline", pipeline];
        run(&place, &[&start[..], &["--out", &file, "--store", store]].concat());
        let output = command(&place, &["evolve-round", "2", "--pipeline", &file, "--store", store, "--json"]).output();
        let output = output.unwrap();
        let recomputes = stderr_of(&output).contains("questioner were dropped; recomputing them from stored samples");
        assert_eq!(recomputes, store == "store", "{}", stderr_of(&output));
        ends.push(report(&output)["result"].clone());
    }
    assert_eq!(ends[0], ends[1]);
    assert_eq!(results(&place, "store").len(), results(&place, "all").len());
    assert_eq!(verify(&place, "store"), (0, BTreeSet::new()));

    // A model that is gone is exported with the bytes that it had.
    let questioner = "t/round-0001/questioner";
    let is_there = || model(&place, "store", questioner).keys().all(|name| place.store().join(name).exists());
    assert!(!is_there(), "the branch's next round has dropped it again");
    for store in ["store", "all"] {
        run(&place, &["model", "export", questioner, &format!("{store}-model"), "--store", store]);
    }
    let weights = |folder: &str| std::fs::read(place.path().join(folder).join("model.safetensors")).unwrap();
    assert!(weights("store-model") == weights("all-model"));
    assert!(is_there());
    assert_eq!(verify(&place, "store"), (0, BTreeSet::new()));
    // It stays until the next collection.
    let collected = run(&place, &["gc", "--delete", "--grace", "0", "--store", "store"]);
    assert!(!collected["dropped"].as_array().unwrap().is_empty());
    assert!(!is_there());
}

#[test]
fn another_evolution_that_keeps_a_checkpoint_keeps_it_for_both() {
    let place = place_of(Workspace::in_memory());
    let round = |pipeline: &str, evolution: &str| {
        run(
            &place,
            &[
                "evolve-round",
                "1",
                "--images",
                "source",
                "--pipeline",
                pipeline,
                "--evolution",
                evolution,
                "--store",
                "store",
            ],
        )
    };
    let first = round("all.toml", "t");
    let all = tensors(&place, "store");
    // The second takes every result of the first, and drops nothing of it.
    assert_eq!(round("p.toml", "u")["result"], first["result"]);
    assert_eq!((tensors(&place, "store"), noted(&place, "store")), (all.clone(), BTreeSet::new()));
    // Once the first changes its mind, the second's settings hold too.
    std::fs::remove_file(place.path().join("store/retention/t.json")).unwrap();
    run(&place, &["gc", "--delete", "--grace", "0", "--store", "store"]);
    assert!(tensors(&place, "store").len() < all.len());
    assert_eq!(verify(&place, "store"), (0, BTreeSet::new()));
}

#[test]
fn a_drop_that_is_killed_loses_nothing_and_is_continued() {
    // On a disk, where the notes take a while.
    let place = place_of(Workspace::new());
    run(&place, &["evolve-round", "2", "--images", "source", "--pipeline", "all.toml", "--store", "all"]);
    std::fs::remove_file(place.path().join("all/retention/t.json")).unwrap();
    copy(&place, "all", "dropped");
    run(&place, &["gc", "--delete", "--grace", "0", "--store", "dropped"]);
    let goal = noted(&place, "dropped");
    assert!(goal.len() > 20);
    let mut interrupted = 0;
    for kill in 0..8 {
        copy(&place, "all", "killed");
        let mut collecting = command(&place, &["gc", "--delete", "--grace", "0", "--store", "killed"]);
        let mut collecting = collecting.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let notes = place.path().join("killed/dropped");
        while collecting.try_wait().unwrap().is_none() && !has_files(&notes, kill) {}
        collecting.kill().unwrap();
        collecting.wait().unwrap();
        let done = noted(&place, "killed");
        let gone: BTreeSet<String> = tensors(&place, "all").difference(&tensors(&place, "killed")).cloned().collect();
        assert!(gone.is_subset(&done), "an object is gone without a note");
        interrupted += usize::from(!done.is_empty() && gone.len() < goal.len());
        assert_eq!(verify(&place, "killed"), (0, BTreeSet::new()));
        // The finished rounds are still finished, and the same command drops the rest.
        let found = run(&place, &["evolve-round", "2", "--pipeline", "p.toml", "--store", "killed"]);
        assert_eq!(found["found"], true);
        assert_eq!((noted(&place, "killed"), tensors(&place, "killed")), (goal.clone(), tensors(&place, "dropped")));
        std::fs::remove_dir_all(place.path().join("killed")).unwrap();
    }
    assert!(interrupted > 0, "every kill came too late");
}

/// Whether a folder of notes has more than some files.
fn has_files(folder: &Path, more_than: usize) -> bool {
    walkdir::WalkDir::new(folder).into_iter().flatten().filter(|entry| entry.file_type().is_file()).count() > more_than
}

#[test]
fn a_lost_note_and_weights_that_cannot_be_recomputed_are_reported_as_damage() {
    let place = place_with_rounds();
    copy(&place, "store", "whole");
    // Without its note an object is lost: the round is rebuilt, and drops it again.
    let notes: Vec<_> = files(&place, "store", "dropped").into_iter().collect();
    std::fs::remove_file(&notes[0].1).unwrap();
    std::fs::remove_file(&notes[1].1).unwrap();
    std::fs::write(&notes[1].1, b"{}").unwrap();
    let (code, named) = verify(&place, "store");
    let object = |note: &str| note.replacen("dropped/", "objects/", 1).trim_end_matches(".json").to_owned();
    assert_eq!(code, 4);
    assert!(named.contains(&object(&notes[0].0)) && named.contains(&notes[1].0), "{named:?}");
    let rebuilt = evolve(&place, "store", &["3"]).output().unwrap();
    assert!(stderr_of(&rebuilt).contains("are missing; recomputing them"), "{}", stderr_of(&rebuilt));
    report(&rebuilt);
    assert_same_results(&place, "store", "whole");
    assert_eq!((tensors(&place, "store"), noted(&place, "store")), (tensors(&place, "whole"), noted(&place, "whole")));

    // A round that lost its own result and a table that its Questioner, which is gone, sampled.
    let lost = run(&place, &["show", "t/round-1/round", "--store", "store"])["key"].as_str().unwrap().to_owned();
    std::fs::remove_file(place.path().join(format!("store/results/{}/{lost}.json", &lost[..2]))).unwrap();
    for view in place.files("views/t/round=1/questions") {
        let name = view.file_name().unwrap().to_string_lossy().split_once('-').unwrap().1.to_owned();
        std::fs::remove_file(place.store().join(format!("objects/{}/{name}", &name[..2]))).unwrap();
    }
    report(&evolve(&place, "store", &["3"]).output().unwrap());
    assert_same_results(&place, "store", "whole");
    assert_eq!(tensors(&place, "store"), tensors(&place, "whole"));

    // Rewards that are not those of the training give other weights, which is said, not used.
    tamper_with_rewards(&place, "whole");
    let export =
        command(&place, &["model", "export", "t/round-1/questioner", "out", "--store", "whole"]).output().unwrap();
    assert_eq!(export.status.code(), Some(4), "{}", stderr_of(&export));
    for part in ["the weights of t/round-0001/questioner were dropped", "cannot be recomputed", "should be"] {
        assert!(stderr_of(&export).contains(part), "{part} is not in {}", stderr_of(&export));
    }
    assert!(!place.path().join("out").exists());
}

/// Replaces the rewards of the first step of round 1 by others.
fn tamper_with_rewards(place: &Workspace, store: &str) {
    let first = steps(place, store, 1).remove(0);
    let opened = Store::open(&place.path().join(store)).unwrap();
    let mut rewards = opened.result(*first.upstream.last().unwrap()).unwrap().unwrap();
    let at = rewards.outputs.iter().position(|output| output.role == RewardRow::TABLE).unwrap();
    let bytes = opened.read_object(rewards.outputs[at].object).unwrap();
    let rows: Vec<RewardRow> = tables::read(RewardRow::TABLE, Bytes::from(bytes)).unwrap();
    let mut writer = TableWriter::with_profile(Vec::new(), PROFILE).unwrap();
    let n = rows.len() as u64;
    for (i, row) in rows.into_iter().enumerate() {
        writer.push(RewardRow { advantage: if i % 2 == 0 { 1.0 } else { -1.0 }, ..row }).unwrap();
    }
    let bytes = writer.finish().unwrap();
    let object = opened.put_object(&bytes, ObjectKind::Parquet).unwrap();
    rewards.outputs[at] = Output { role: RewardRow::TABLE.into(), object, rows: n, bytes: bytes.len() as u64 };
    let key = rewards.action.to_string();
    std::fs::remove_file(place.path().join(format!("{store}/results/{}/{key}.json", &key[..2]))).unwrap();
    opened.publish_result(&rewards).unwrap();
}
