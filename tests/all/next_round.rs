//! `evolve-round next`: concurrent runs, and dry runs.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::rounds::{PIPELINE, evolve, place, report};
use crate::support::{Workspace, stderr_of};

fn files(place: &Workspace) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let all = place.files("").into_iter();
    all.map(|file| (file.clone(), std::fs::read(&file).unwrap())).collect()
}

#[test]
fn two_concurrent_runs_make_one_round() {
    let place = place();
    let start = || {
        let mut command = evolve(&place, "store", &["next", "--images", "source"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [start(), start()].map(|running| report(&running.wait_with_output().unwrap()));
    assert_eq!(both[0]["result"], both[1]["result"]);
    assert_eq!((&both[0]["round"], &both[1]["round"]), (&json!(1), &json!(1)));
    // Each name has one ref, and the round is that of a single process.
    for name in ["images", "round-0001/questioner", "round-0001/reasoner", "round-0001/round"] {
        assert_eq!(place.files(&format!("refs/t/{name}")).len(), 1, "{name}");
    }
    let alone = report(&evolve(&place, "alone", &["next", "--images", "source"]).output().unwrap());
    assert_eq!(alone["result"], both[0]["result"]);
    assert_eq!(place.verify(), (0, vec![]));
    assert!(place.files("claims").is_empty());
}

#[test]
fn a_dry_run_says_what_would_run_and_why_and_changes_nothing() {
    let place = place();
    let dry = |arguments: &[&str]| -> Value {
        let output = evolve(&place, "store", &[arguments, &["--dry-run"]].concat()).output().unwrap();
        report(&output)
    };
    // Without a store the images come first, and no store is created.
    let first = dry(&["2", "--images", "source"]);
    assert_eq!(
        (&first["round"], &first["part"], &first["next"]),
        (&json!(2), &json!("images"), &json!("measuring images"))
    );
    assert!(!place.store().exists());
    assert!(first["why"].as_str().unwrap().contains("no result of ingest.measure yet"), "{first}");
    let text = place
        .command(&["evolve-round", "2", "--images", "source", "--pipeline", "p.toml", "--dry-run"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("the images of t would be ingested") && text.contains("up to round 2"), "{text}");

    report(&evolve(&place, "store", &["1", "--images", "source"]).output().unwrap());
    let before = files(&place);
    // A finished round, the next one, and one with other settings.
    assert_eq!(dry(&["1"])["why"], "done");
    let next = dry(&["next"]);
    assert_eq!((&next["round"], &next["part"], &next["step"]), (&json!(2), &json!("Questioner's training"), &json!(0)));
    let states: Vec<&str> =
        next["plan"].as_array().unwrap().iter().map(|part| part["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["done", "next", "to do", "to do", "to do", "to do", "to do", "to do"]);
    let keys = |value: &Value| -> Vec<String> {
        let all = value["differences"].as_array().unwrap().iter();
        all.map(|difference| difference["key"].as_str().unwrap().to_owned()).collect()
    };
    assert!(keys(&next).contains(&"seed".to_owned()), "{next}");
    // Another band: all stages before the curriculum have results, and the band is the reason.
    std::fs::write(place.path().join("p.toml"), PIPELINE.replace("low = 0.1", "low = 0.3")).unwrap();
    let source = ["ingest", "source", "--evolution", "u", "--pipeline", "p.toml"];
    let taken = std::process::Command::new(crate::support::VISPLAY)
        .args(source)
        .args(["--store", "store"])
        .current_dir(place.path())
        .output()
        .unwrap();
    assert!(taken.status.success(), "{}", stderr_of(&taken));
    let before_ingest = before;
    let before = files(&place);
    let other = dry(&["1", "--evolution", "u"]);
    assert_eq!(
        (&other["part"], keys(&other)),
        (&json!("curriculum"), vec!["parameters.settings.low".to_owned()]),
        "{other}"
    );
    let text = place
        .command(&["evolve-round", "3", "--evolution", "u", "--pipeline", "p.toml", "--dry-run"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for part in [
        "round 1 of u would run",
        "choosing the curriculum",
        "why: no result of curriculum has this key",
        "then rounds 2 to 3",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(files(&place), before);
    assert!(before_ingest.len() < before.len());
    // Images that another evolution has ingested only need a ref.
    let named = dry(&["1", "--images", "source", "--evolution", "v"]);
    assert_eq!(named["part"], "images");
    assert!(named["why"].as_str().unwrap().contains("only the ref to it would be written"), "{named}");
    // A dry run reports what cannot run.
    let output = evolve(&place, "store", &["1", "--evolution", "none", "--dry-run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr_of(&output).contains("has no images yet"), "{}", stderr_of(&output));
}
