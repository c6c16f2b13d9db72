//! Rounds whose input files are gone: what the store has is used, and anything else is named with
//! its key, path and folder.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use visplay::evolution::EvolutionContext;
use visplay::evolution::pipeline::Pipeline;
use visplay::stages::role_prompt::RolePrompt;
use visplay::stages::{Interrupt, Progress, Runner};
use visplay::store::{ObjectKind, Store};

use crate::rounds::{evolve, report};
use crate::support::{VISPLAY, Workspace, stderr_of};
use crate::trained_model::{forget_companions, tiny_pipeline, tiny_place};

const FROM_STORE: &str = "continuing with the base model in the store";

fn round(place: &Workspace, arguments: &[&str]) -> Output {
    evolve(place, "store", arguments).output().unwrap()
}

/// Runs the first round with prompts of its own.
fn place_with_round() -> Workspace {
    let place = tiny_place();
    write_prompts(&place);
    report(&round(&place, &["1", "--images", "source"]));
    place
}

fn write_prompts(place: &Workspace) {
    let prompts = place.path().join("prompts");
    std::fs::create_dir_all(&prompts).unwrap();
    for name in ["nano-questioner.txt", "nano-reasoner.txt"] {
        let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/prompts").join(name);
        let text = std::fs::read_to_string(built_in).unwrap();
        std::fs::write(prompts.join(name), format!("{text}So: ")).unwrap();
    }
}

fn remove(place: &Workspace, names: &[&str]) {
    for name in names {
        let path = place.path().join(name);
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }
}

#[test]
fn a_round_continues_without_its_base_folder_and_prompts() {
    let place = place_with_round();
    let expected = report(&round(&place, &["2"]));
    for old_store in [false, true] {
        let place = place_with_round();
        if old_store {
            forget_companions(&place);
        }
        remove(&place, &["base", "prompts"]);
        let output = round(&place, &["2"]);
        assert_eq!(report(&output)["result"], expected["result"], "old store: {old_store}");
        for part in ["model.base: ", FROM_STORE, "prompts.reasoner: ", "continuing with the prompt of round 1"] {
            assert!(stderr_of(&output).contains(part), "{part}: {}", stderr_of(&output));
        }
        if !old_store {
            // A finished round needs none of them.
            assert!(!stderr_of(&round(&place, &["2"])).contains(FROM_STORE));
            assert_eq!(place.verify(), (0, vec![]));
        }
    }
}

#[test]
fn any_way_to_lose_the_base_folder_is_recognized() {
    let place = place_with_round();
    let base = place.path().join("base");
    let next = || {
        let output = round(&place, &["2", "--dry-run"]);
        (report(&output)["next"].clone(), stderr_of(&output))
    };
    let (expected, stderr) = next();
    assert!(!stderr.contains(FROM_STORE), "{stderr}");
    // The weights were deleted to save space.
    let weights = std::fs::read(base.join("model.safetensors")).unwrap();
    std::fs::remove_file(base.join("model.safetensors")).unwrap();
    let (found, stderr) = next();
    assert!(found == expected && stderr.contains(FROM_STORE), "{stderr}");
    // What is left is of another model.
    let config = std::fs::read_to_string(base.join("config.json")).unwrap();
    std::fs::write(base.join("config.json"), config.replace("\"rope_theta\": 1000000.0", "\"rope_theta\": 2.0") + " ")
        .unwrap();
    let output = round(&place, &["2"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr_of(&output));
    assert!(stderr_of(&output).contains("weights") && !stderr_of(&output).contains(FROM_STORE));
    // Other weights are not replaced by those in the store.
    std::fs::write(base.join("config.json"), &config).unwrap();
    let mut other = weights.clone();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(base.join("model.safetensors"), other).unwrap();
    let (found, stderr) = next();
    assert!(found != expected && !stderr.contains(FROM_STORE), "{found} {stderr}");
    // The disk is not mounted: an empty folder.
    remove(&place, &["base"]);
    std::fs::create_dir(&base).unwrap();
    assert!(next().1.contains(FROM_STORE));
    std::fs::write(base.join("README.md"), "moved").unwrap();
    assert!(next().1.contains(FROM_STORE));
    // A link whose target is gone.
    remove(&place, &["base"]);
    std::os::unix::fs::symlink("nowhere", &base).unwrap();
    let (found, stderr) = next();
    assert!(found == expected && stderr.contains(FROM_STORE), "{stderr}");
    // A file is no folder that is gone.
    std::fs::remove_file(&base).unwrap();
    std::fs::write(&base, "x").unwrap();
    let output = round(&place, &["2", "--dry-run"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr_of(&output));
    // Another evolution has no model in the store.
    std::fs::remove_file(&base).unwrap();
    let output = round(&place, &["1", "--evolution", "u", "--images", "source"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr_of(&output));
    for part in ["p.toml:4: `model.base`", "`base` does not exist", place.path().to_str().unwrap()] {
        assert!(stderr_of(&output).contains(part), "{part}: {}", stderr_of(&output));
    }
}

#[test]
fn a_round_that_is_stopped_interrupted_damaged_or_branched_continues_without_the_base_folder() {
    let place = tiny_place();
    let stopped = format!("{}[gates.kept_rows]\nstop = 40\n", tiny_pipeline().replace("low = 0.0", "low = 0.9"));
    std::fs::write(place.path().join("p.toml"), stopped).unwrap();
    let output = round(&place, &["1", "--images", "source"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr_of(&output));
    let branch = ["branch", "b", "--from", "base", "--pipeline", "p.toml", "--set", "curriculum.low=0.0"];
    assert!(place.command(&branch).output().unwrap().status.success());
    remove(&place, &["base"]);
    // With an older store and with an interrupted round, one of the two refs is missing.
    for lost in ["refs/t/base", "refs/t/round-0001"] {
        let (from, to) = (place.store().join(lost), place.path().join("lost"));
        std::fs::rename(&from, &to).unwrap();
        let output = round(&place, &["1", "--dry-run"]);
        assert!(stderr_of(&output).contains(FROM_STORE), "{lost}: {}", stderr_of(&output));
        std::fs::rename(&to, &from).unwrap();
    }
    let dry = place.command(&["evolve-round", "1", "--pipeline", "b.toml", "--dry-run"]).output().unwrap();
    assert!(dry.status.success() && stderr_of(&dry).contains(FROM_STORE), "{}", stderr_of(&dry));
    std::fs::write(place.path().join("p.toml"), tiny_pipeline()).unwrap();
    let expected = report(&round(&place, &["1"]));

    // A damaged round is rebuilt.
    let view = place.files("views/t/round=1/votes")[0].file_name().unwrap().to_string_lossy().into_owned();
    let object = view.split_once('-').unwrap().1.to_owned();
    std::fs::remove_file(place.store().join("objects").join(&object[..2]).join(object)).unwrap();
    let output = round(&place, &["1"]);
    assert_eq!(report(&output)["result"], expected["result"]);
    assert!(stderr_of(&output).contains("parts of round 1 are missing"), "{}", stderr_of(&output));
    assert_eq!(place.verify(), (0, vec![]));
    // A lost ref to the base model is restored.
    remove(&place, &["store/refs/t/base"]);
    report(&round(&place, &["1"]));
    assert_eq!(place.files("refs/t/base").len(), 1);
}

/// Keeps the messages of a run.
#[derive(Default)]
struct Messages(std::sync::Mutex<Vec<String>>);

impl Progress for Messages {
    fn begin(&self, _phase: &str, _total: u64) {}
    fn advance(&self, _units: u64) {}
    fn end(&self) {}
    fn say(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

#[test]
fn a_round_with_a_prompt_that_was_not_normalised_keeps_it_and_the_next_one_says_so() {
    let place = place_with_round();
    let store = Store::open(&place.store()).unwrap();
    // An earlier version stored the texts of files as they were.
    let key = store.head("t", "round-0001/round").unwrap().unwrap().result;
    let mut result = store.result(key).unwrap().unwrap();
    let mut stored = Vec::new();
    for output in &mut result.outputs {
        if !output.role.starts_with("prompt.") {
            continue;
        }
        let text: String = serde_json::from_slice(&store.read_object(output.object).unwrap()).unwrap();
        let prompt = RolePrompt::from_stored(Path::new("old.txt"), &text.replace('\n', "\r\n")).unwrap();
        let json = serde_json::to_vec(&prompt.text).unwrap();
        output.object = store.put_object(&json, ObjectKind::Json).unwrap();
        output.bytes = json.len() as u64;
        stored.push(prompt);
    }
    let name = key.to_string();
    std::fs::remove_file(place.store().join(format!("results/{}/{name}.json", &name[..2]))).unwrap();
    store.publish_result(&result).unwrap();

    let pipeline = Pipeline::load(Some(&place.path().join("p.toml"))).unwrap();
    let prompts = |round: u32| {
        let (messages, interrupt) = (Messages::default(), Interrupt::default());
        let runner = Runner::new(&store, &messages, &interrupt);
        let context = EvolutionContext::new(&pipeline, &runner, None, round).unwrap();
        let ids = [context.questioner_prompt.id, context.reasoner_prompt.id];
        drop(context);
        (ids, messages.0.into_inner().unwrap())
    };
    let old = [stored[0].id, stored[1].id];
    let normalised = [&stored[0], &stored[1]].map(|prompt| prompt.normalised().unwrap().id);
    assert!(old[0] != normalised[0] && old[1] != normalised[1]);
    // The file differs from the stored text only by the normalisation.
    assert_eq!(prompts(1).0, old);
    let (ids, messages) = prompts(2);
    assert_eq!(ids, normalised);
    let notes = messages.iter().filter(|message| message.contains("round 2 uses it normalised"));
    assert_eq!(notes.count(), 2, "{messages:?}");
    // So it does without the file.
    remove(&place, &["prompts"]);
    assert_eq!((prompts(1).0, prompts(2).0), (old, normalised));
    // Another text is another prompt.
    write_prompts(&place);
    let file = place.path().join("prompts/nano-reasoner.txt");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("So: ", "Thus: ")).unwrap();
    let (ids, messages) = prompts(1);
    assert!(ids[0] == old[0] && ids[1] != old[1] && ids[1] != normalised[1], "{messages:?}");
}

#[test]
fn commands_about_a_round_work_anywhere_without_its_base_folder() {
    let place = tiny_place();
    let bench = ["scenes", "--count", "4", "--seed", "7", "--benchmark", "bench.parquet"];
    assert!(place.command(&bench).output().unwrap().status.success());
    let evaluation = "[evaluation]\nbenchmarks = [\"bench.parquet\"]\ntruth = \"truth.parquet\"\n\
                      protocols = { greedy = true, max_tokens = 1 }\n";
    std::fs::write(place.path().join("p.toml"), format!("{}{evaluation}", tiny_pipeline())).unwrap();
    report(&round(&place, &["1", "--images", "source"]));
    remove(&place, &["base"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let file = place.path().join("p.toml").display().to_string();
    let anywhere = |arguments: &[&str]| -> (Option<i32>, Value, String) {
        let mut command = Command::new(VISPLAY);
        command.args(arguments).arg("--json").env("VISPLAY_STORE", place.store()).current_dir(elsewhere.path());
        let output = command.output().unwrap();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), stderr_of(&output))
    };
    let pipeline = ["--pipeline", file.as_str()];
    let (code, replayed, stderr) = anywhere(&[&["replay", "t/round-1"], &pipeline[..]].concat());
    assert_eq!(code, Some(0), "{stderr} {replayed}");
    assert!(stderr.contains("the import of the base model is not recomputed") && stderr.contains("`model.base`"));
    let results = replayed["results"].as_array().unwrap();
    assert!(results.iter().all(|result| result["level"] == "bits" && result["part"] != "base"), "{replayed}");
    let (code, _, stderr) = anywhere(&[&["replay", "t/round-1/base"], &pipeline[..]].concat());
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("p.toml:4: `model.base`") && stderr.contains(place.path().to_str().unwrap()), "{stderr}");

    let (code, _, stderr) = anywhere(&[&["audit", "1"], &pipeline[..]].concat());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("evaluation.truth: there is no file") && stderr.contains("truth.parquet"), "{stderr}");
    let images = place.source().display().to_string();
    let (code, _, stderr) = anywhere(&[&["why", "ingest", &images], &pipeline[..]].concat());
    assert_eq!(code, Some(0), "{stderr}");
    let bench = place.path().join("bench.parquet").display().to_string();
    let evaluate = ["evaluate", "--benchmark", &bench, "--max-tokens", "1", "--model"];
    let (code, _, stderr) = anywhere(&[&evaluate[..], &["t/round-0001/reasoner"]].concat());
    assert_eq!(code, Some(0), "{stderr}");
    let gone = place.path().join("base").display().to_string();
    let (code, _, stderr) = anywhere(&[&evaluate[..], &[gone.as_str()]].concat());
    assert!(code == Some(2) && stderr.contains("neither a folder nor a ref"), "{stderr}");

    // The next round runs from anywhere; it needs the benchmark, which the store does not have.
    let next = [&["evolve-round", "2", "--dry-run"], &pipeline[..]].concat();
    let (code, _, stderr) = anywhere(&next);
    assert!(code == Some(0) && stderr.contains(FROM_STORE), "{stderr}");
    remove(&place, &["bench.parquet"]);
    let (code, _, stderr) = anywhere(&next);
    assert_eq!(code, Some(2), "{stderr}");
    let (_, replayed, _) = anywhere(&[&["replay", "t/round-1/evaluation"], &pipeline[..]].concat());
    for text in [stderr, replayed.to_string()] {
        for part in ["`evaluation.benchmarks`", "bench.parquet` does not exist", place.path().to_str().unwrap()] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
