//! Branches: rounds shared under another name, then settings of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::rounds::{PIPELINE, evolve, place, report};
use crate::support::{Workspace, stderr_of};

/// Returns a folder with a commented pipeline file and an evolution `t` of some rounds.
fn place_with_rounds(rounds: &str) -> Workspace {
    let place = place();
    let commented = PIPELINE.replace("low = 0.1\n", "# The band (ours).\nlow = 0.1 # kept from here\n");
    std::fs::write(place.path().join("p.toml"), commented).unwrap();
    report(&evolve(&place, "store", &[rounds, "--images", "source"]).output().unwrap());
    place
}

/// Returns the sizes of all stored files except refs and views.
fn stored_file_sizes(place: &Workspace) -> BTreeMap<PathBuf, u64> {
    let folders = ["objects", "actions", "results"];
    let files = folders.iter().flat_map(|folder| place.files(folder));
    files.map(|file| (file.clone(), std::fs::metadata(&file).unwrap().len())).collect()
}

fn branch(place: &Workspace, more: &[&str]) -> Value {
    place.json(&[&["branch", "--pipeline", "p.toml"][..], more].concat())
}

#[test]
fn a_branch_shares_rounds_and_continues_with_its_own_settings() {
    let place = place_with_rounds("2");
    // The low band keeps any answer of six votes, since a tiny random model's agreement depends on
    // the processor's rounding.
    let before = stored_file_sizes(&place);
    let created =
        branch(&place, &["tighter", "--from", "round-1", "--set", "curriculum.low=0.12", "--set", "round.seed=5"]);
    assert_eq!((&created["found"], &created["pipeline"]), (&json!(false), &json!("tighter.toml")));
    assert_eq!(stored_file_sizes(&place), before);

    // Except for the changed settings, the file is the original with its comments.
    let [original, written] =
        ["p.toml", "tighter.toml"].map(|file| std::fs::read_to_string(place.path().join(file)).unwrap());
    let changed: Vec<(&str, &str)> = original.lines().zip(written.lines()).filter(|(a, b)| a != b).collect();
    let expected = [
        ("evolution = \"t\"", "evolution = \"tighter\""),
        ("low = 0.1 # kept from here", "low = 0.12 # kept from here"),
    ];
    assert_eq!(changed[..2], expected, "{written}");
    assert!(written.contains("[round]\nseed = 5\nimages = 8\n"), "{written}");

    // Round 1 and the images are the same results, and both have views.
    for name in ["round-0001/round", "round-0001/questioner", "round-0001/reasoner", "images"] {
        let [of_t, of_branch] =
            ["t", "tighter"].map(|evolution| place.json(&["show", &format!("{evolution}/{name}")])["key"].clone());
        assert_eq!(of_t, of_branch, "{name}");
    }
    assert_eq!(place.files("views/tighter/round=1/curriculum").len(), 1);
    assert_eq!(place.files("views/tighter/images").len(), place.files("views/t/images").len());
    assert!(place.files("views/tighter/round=2").is_empty());

    // Repeating the command changes nothing.
    let refs = place.files("refs");
    let repeated =
        branch(&place, &["tighter", "--from", "round-1", "--set", "curriculum.low=0.12", "--set", "round.seed=5"]);
    assert_eq!((&repeated["found"], place.files("refs")), (&json!(true), refs));

    // Round 2 is run with the branch's settings.
    let run = |arguments: &[&str]| {
        let more = [arguments, &["--pipeline", "tighter.toml"]].concat();
        let mut command = place.command(&[&["evolve-round"][..], &more[..], &["--json"]].concat());
        report(&command.output().unwrap())
    };
    let [shared, own_round] = [run(&["1"]), run(&["2"])];
    let original = report(&evolve(&place, "store", &["1"]).output().unwrap());
    assert_eq!((&shared["result"], &shared["found"]), (&original["result"], &json!(true)));
    assert_eq!(own_round["found"], false);
    let settings = place.json(&["show", "tighter/round-0002/round"])["action"]["parameters"]["pipeline"].clone();
    assert_eq!((&settings["curriculum"]["low"], &settings["round"]["seed"]), (&json!(0.12), &json!(5)));
    assert!(
        place.files("results").len()
            > before.keys().filter(|file| file.to_string_lossy().contains("/results/")).count()
    );
    // Repeating the command still finds the same branch.
    let repeated =
        branch(&place, &["tighter", "--from", "round-1", "--set", "curriculum.low=0.12", "--set", "round.seed=5"]);
    assert_eq!(repeated["found"], true);
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn a_branch_from_the_base_shares_only_the_images() {
    let place = place_with_rounds("1");
    std::fs::create_dir(place.path().join("elsewhere")).unwrap();
    let out = "elsewhere/b.toml";
    branch(&place, &["b", "--from", "base", "--set", "sampling.questioner.top_k=7", "--out", out]);
    let dry = place.json(&["evolve-round", "1", "--dry-run", "--pipeline", out]);
    assert_eq!(
        (&dry["round"], &dry["next"], &dry["part"]),
        (&json!(1), &json!("asking questions"), &json!("Questioner's training"))
    );
    assert!(dry["differences"].as_array().unwrap().iter().any(|d| d["key"] == "parameters.sampling.top_k"), "{dry}");
    assert_eq!(
        report(&place.command(&["evolve-round", "1", "--pipeline", out, "--json"]).output().unwrap())["found"],
        false
    );
}

#[test]
fn an_invalid_branch_is_reported_and_nothing_is_written() {
    let place = place_with_rounds("1");
    let before = (stored_file_sizes(&place), place.files("refs"));
    let fails = |more: &[&str], parts: &[&str]| {
        let output = place.command(&[&["branch", "--pipeline", "p.toml"][..], more].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{more:?}: {}", stderr_of(&output));
        for part in parts {
            assert!(stderr_of(&output).contains(part), "{more:?}: {} lacks {part}", stderr_of(&output));
        }
        assert!(!place.path().join("b.toml").exists(), "{more:?}");
    };
    let from = ["b", "--from", "round-1"];
    let set = |setting: &'static str| [&from[..], &["--set", setting]].concat();
    fails(&set("curriculum.lo=0.3"), &["--set", "unknown key `lo`", "did you mean `low`"]);
    fails(&set("curiculum.low=0.3"), &["did you mean `curriculum`"]);
    fails(&set("curriculum.low=abc"), &["--set", "curriculum.low"]);
    fails(&set("curriculum.low=1.5"), &["1.5 is not within 0 to 1"]);
    fails(&set("curriculum.low=0.8"), &["curriculum.high", "0.75 is not within 0.8 to 1"]);
    fails(&set("round.images=-1"), &["--set", "images"]);
    fails(&set("curriculum=3"), &["--set", "curriculum"]);
    fails(&set("preset=papre"), &["papre", "paper, released-code"]);
    fails(&set("evolution=c"), &["evolution"]);
    fails(&set("low"), &["KEY=VALUE"]);
    fails(&set("a b=1"), &["is not a key"]);
    fails(&["b", "--from", "round-2"], &["round 2 of `t` is not finished", "round-1"]);
    fails(&["b", "--from", "round-x"], &["round-N", "base"]);
    fails(&["b", "--from=-1"], &["--from"]);
    fails(&["../b", "--from", "base"], &["cannot name an evolution"]);
    fails(&["t", "--from", "round-1"], &["needs a name of its own"]);
    fails(&["b", "--from", "base", "--evolution", "u"], &["no evolution `u`", "its evolutions: t"]);
    fails(&["b", "--from", "base", "--out", "p.toml"], &["another file of this name"]);
    fails(&["b", "--from", "base", "--out", "no/such/b.toml"], &["no/such/b.toml"]);
    assert_eq!((stored_file_sizes(&place), place.files("refs")), before);

    // The name of an existing evolution.
    assert!(place.command(&["ingest", "source", "--evolution", "b"]).output().unwrap().status.success());
    fails(&["b", "--from", "base"], &["`b` already exists"]);
    // Two settings, each of which is wrong without the other.
    assert!(
        place
            .command(&[
                "branch",
                "c",
                "--pipeline",
                "p.toml",
                "--from",
                "base",
                "--set",
                "curriculum.low=0.9",
                "--set",
                "curriculum.high=1.0",
            ])
            .output()
            .unwrap()
            .status
            .success()
    );
}
