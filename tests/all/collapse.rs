//! A collapsing Questioner is stopped by a gate, and the round before stays current: with the
//! bundled nano model, pipeline and gates.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use serde_json::{Value, json};

use crate::support::{VISPLAY, stderr_of};

/// Settings that make a round small enough for a test.
const SMALL: [(&str, &str, &str); 12] = [
    ("round", "images", "40"),
    ("round", "keep_best", "false"),
    ("evaluation", "items", "15"),
    ("curriculum", "label_samples", "6"),
    ("gates.kept_rows", "warn", "4"),
    ("gates.kept_rows", "stop", "1"),
    ("update.questioner", "steps", "2"),
    ("update.questioner", "prompts_per_step", "8"),
    ("update.questioner", "prompts_per_update", "8"),
    ("update.reasoner", "steps", "2"),
    ("update.reasoner", "prompts_per_step", "8"),
    ("update.reasoner", "prompts_per_update", "8"),
];

/// Settings without diversity penalty and KL penalty, and with far too high a learning rate.
const COLLAPSING: [(&str, &str, &str); 5] = [
    ("questioner", "lambda", "0.0"),
    ("questioner", "scope", "\"step\""),
    ("update.questioner", "learning_rate", "1e-2"),
    ("update.questioner", "beta", "0.0"),
    ("update.questioner", "steps", "8"),
];

/// Returns the text of a pipeline file with an existing key changed.
fn set_key(text: &str, (section, key, value): (&str, &str, &str)) -> String {
    let (before, rest) = text.split_once(&format!("\n[{section}]\n")).unwrap();
    let end = rest.find("\n[").unwrap_or(rest.len());
    let line = rest[..end].lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
    format!("{before}\n[{section}]\n{}", rest.replacen(line, &format!("{key} = {value}"), 1))
}

/// Runs `visplay evolve-round` with a pipeline file of `place`.
fn evolve(place: &Path, pipeline: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(VISPLAY);
    command.arg("evolve-round").args(arguments).arg("--pipeline").arg(place.join(pipeline));
    command.arg("--store").arg(place.join("store")).arg("--json").current_dir(place);
    command.output().unwrap()
}

fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr_of(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_collapse_is_stopped_by_a_gate_and_the_round_before_stays_current() {
    let place = tempfile::tempdir().unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = std::fs::read_to_string(project.join("pipelines/nano.toml")).unwrap();
    let shipped = shipped
        .replace("\"../data/", &format!("\"{}/data/", project.display()))
        .replace("\"prompts/", &format!("\"{}/pipelines/prompts/", project.display()));
    let sound = SMALL.into_iter().fold(shipped, |text, change| set_key(&text, change));
    let collapsing = COLLAPSING.into_iter().fold(sound.clone(), |text, change| set_key(&text, change));
    std::fs::write(place.path().join("sound.toml"), sound).unwrap();
    std::fs::write(place.path().join("collapsing.toml"), collapsing).unwrap();
    let first = report(&evolve(place.path(), "sound.toml", &["1"]));

    let stopped = evolve(place.path(), "collapsing.toml", &["next"]);
    assert_eq!(stopped.status.code(), Some(3), "{}", stderr_of(&stopped));
    let message = stderr_of(&stopped);
    let reason = message.lines().find(|line| line.contains("round 2 was stopped by gates.")).unwrap();
    let numbers: Vec<f64> = reason.split([' ', ',', ';']).filter_map(|word| word.parse().ok()).collect();
    let [round, figure, threshold] = numbers[..] else { panic!("{reason}") };
    let beyond = if reason.contains("at least") { figure < threshold } else { figure > threshold };
    assert!(round == 2.0 && beyond, "{reason}");

    // The round before stays current, and a sound pipeline continues from it.
    let status = Command::new(VISPLAY).args(["status", "--json", "--store"]).arg(place.path().join("store")).output();
    let status = String::from_utf8(status.unwrap().stdout).unwrap();
    assert!(status.contains("round-0001/reasoner") && !status.contains("round-0002/round"), "{status}");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["current"]["nano"], json!(1));
    // The tables of the stopped round have a view of their own and are not garbage-collected.
    let questions = place.path().join("store/views/nano/stopped/round=2/questions");
    assert!(message.contains("store/views/nano/stopped/round=2") && message.contains("verdict"), "{message}");
    let rows = |folder: &Path| {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let count = |file: PathBuf| {
            SerializedFileReader::new(File::open(file).unwrap()).unwrap().metadata().file_metadata().num_rows()
        };
        files.map(count).sum::<i64>()
    };
    let asked = rows(&questions);
    assert!(asked > 0);
    let gc = Command::new(VISPLAY).args(["gc", "--store"]).arg(place.path().join("store")).output().unwrap();
    assert!(gc.status.success(), "{}", stderr_of(&gc));
    assert_eq!(rows(&questions), asked);
    assert_eq!(report(&evolve(place.path(), "sound.toml", &["next", "--dry-run"]))["round"], json!(2));
    let second = report(&evolve(place.path(), "sound.toml", &["2"]));
    for protocol in 0..3 {
        let scores = [&first, &second].map(|report| &report["report"]["scores"][protocol]);
        assert_eq!(scores[1]["before"], scores[0]["after"], "{}", scores[0]["protocol"]);
    }
}
