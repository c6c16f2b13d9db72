//! Audits: consistent and inconsistent tables, labels compared with the truth, and the truth kept
//! out of training.

use std::fs;

use serde_json::{Value, json};
use visplay::store::{ActionKey, ObjectKind, Output, StageResult, Store};
use visplay::tables::{self, CurriculumRow, RejectRow, RewardRow, SceneObjectRow, TableRow, VoteRow};

use crate::rounds::{PIPELINE, evolve, place_of, report};
use crate::support::{Workspace, stderr_of};

/// Returns a pipeline on generated scenes, with a model that asks some of their questions.
fn place_with_round() -> Workspace {
    let mut questions: Vec<String> = (0..8).map(|n| format!("What is {n}?")).collect();
    for colour in ["red", "green", "blue", "yellow"] {
        questions.extend(
            ["circles", "squares", "triangles", "shapes"].map(|shape| format!("How many {colour} {shape} are there?")),
        );
        questions.extend((1..5).map(|row| format!("How many {colour} shapes are in row {row}?")));
        questions.push(format!("Is there a {colour} circle? A yes B no"));
        questions.push(format!("How many more {colour} shapes than squares are there?"));
        questions.push(format!("How many {colour} shapes and {colour} circles are there in total?"));
        questions.push(format!("How many {colour} shapes are not {colour}?"));
        questions.push(format!("What share of the circles are {colour} to one decimal?"));
    }
    let place = place_of(&questions);
    let scenes = ["scenes", "--count", "12", "--seed", "5", "--out", "data"];
    assert!(place.command(&scenes).output().unwrap().status.success());
    let truth = "[evaluation]\ntruth = \"data/scenes.parquet\"\n";
    fs::write(
        place.path().join("p.toml"),
        PIPELINE.replace("questions_per_image = 8", "questions_per_image = 40") + truth,
    )
    .unwrap();
    place
}

fn run(place: &Workspace, store: &str) -> Value {
    report(&evolve(place, store, &["1", "--images", "data/images"]).output().unwrap())
}

fn audit(place: &Workspace, more: &[&str]) -> (i32, Value, String) {
    let output =
        place.command(&[&["audit", "1", "--pipeline", "p.toml", "--json"][..], more].concat()).output().unwrap();
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), value, stderr_of(&output))
}

#[test]
fn a_round_is_consistent_and_its_labels_are_measured() {
    let place = place_with_round();
    let evolved = run(&place, "store");
    let (code, audit_json, stderr) = audit(&place, &[]);
    assert_eq!((code, &audit_json["alignment"]["count"]), (0, &json!(0)), "{stderr} {}", audit_json["alignment"]);
    for table in ["questions", "answers", "votes", "curriculum", "rewards", "metrics", "rejects"] {
        assert!(audit_json["alignment"]["checked"][table].as_u64().unwrap() > 0, "{table}");
    }
    assert_eq!(audit_json["questions"]["asked"], evolved["report"]["questions"]["asked"]);
    // Every question belongs to a known family, is ambiguous, or is unknown.
    for (side, n) in [("voted", "voted"), ("kept", "kept")] {
        let accuracy = &audit_json["truth"][side];
        assert_eq!(accuracy["questions"], audit_json["votes"][n], "{accuracy}");
        assert_eq!(accuracy["with_truth"], accuracy["questions"]);
        let sum: u64 = ["ambiguous", "unknown"].iter().map(|name| accuracy[*name].as_u64().unwrap()).sum();
        assert_eq!(
            accuracy["labels"]["of"].as_u64().unwrap() + sum,
            accuracy["questions"].as_u64().unwrap(),
            "{accuracy}"
        );
        let bins = accuracy["by_confidence"].as_array().unwrap();
        let in_bins: u64 = bins.iter().map(|bin| bin["labels"]["of"].as_u64().unwrap()).sum();
        assert_eq!(in_bins, accuracy["labels"]["of"].as_u64().unwrap());
        let (right, all) = (accuracy["labels"]["right"].as_f64().unwrap(), accuracy["labels"]["of"].as_f64().unwrap());
        let [low, high] = ["low", "high"].map(|end| accuracy["labels"][end].as_f64().unwrap());
        assert!(low <= right / all && right / all <= high, "{accuracy}");
    }
    let voted = &audit_json["truth"]["voted"];
    for verdict in ["ambiguous", "unknown", "false_premises"] {
        assert!(voted[verdict].as_u64().unwrap() > 0, "{verdict}: {voted}");
    }
    // evolve-round prints the same accuracy.
    assert_eq!(evolved["labels"], audit_json["truth"]["kept"]);
    let text = evolve(&place, "store", &["1"]).output().unwrap();
    assert_eq!(report(&text)["labels"], evolved["labels"]);
    let closing = place.command(&["evolve-round", "1", "--pipeline", "p.toml"]).output().unwrap();
    assert!(String::from_utf8_lossy(&closing.stdout).contains("right pseudo-labels"));
    // Each setting that differs from the paper's, with both values and their source.
    let differences = audit_json["differences"].as_array().unwrap();
    let difference_of = |key: &str| differences.iter().find(|d| d["key"] == key);
    let low = difference_of("curriculum.low").unwrap();
    assert_eq!((&low["round"], &low["paper"]), (&json!(0.1), &json!(0.25)));
    assert!(low["source"].as_str().unwrap().contains("paper 0.25 to 0.75"), "{low}");
    assert!(difference_of("curriculum.high").is_none() && difference_of("curriculum.deduplicate").is_some());
    let text = place.command(&["audit", "1", "--pipeline", "p.toml"]).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for part in [
        "every row is consistent",
        "duplicates within an image",
        "right at confidence",
        "curriculum.low",
        "false premise",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

/// The second round has the first among its inputs, whose rejects are counted there.
#[test]
fn a_second_round_is_consistent_with_the_first() {
    let place = place_with_round();
    report(&evolve(&place, "store", &["2", "--images", "data/images"]).output().unwrap());
    let output = place.command(&["audit", "2", "--pipeline", "p.toml", "--json"]).output().unwrap();
    let audit_json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(audit_json["alignment"]["count"], json!(0), "{} {}", stderr_of(&output), audit_json["alignment"]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_truth_does_not_influence_training() {
    let place = place_with_round();
    let honest = run(&place, "honest");
    // Replace the truth with noise: every object gets another colour and shape.
    let file = place.path().join("data/scenes.parquet");
    let mut rows: Vec<SceneObjectRow> = tables::read_file(&file).unwrap();
    for row in &mut rows {
        row.colour = if row.colour == "red" { "blue" } else { "red" }.to_owned();
        row.shape = if row.shape == "circle" { "square" } else { "circle" }.to_owned();
    }
    fs::write(&file, tables::to_bytes(rows).unwrap()).unwrap();
    let noisy = run(&place, "noisy");
    assert_eq!(honest["result"], noisy["result"]);
    assert_eq!(honest["report"]["reasoner_model"], noisy["report"]["reasoner_model"]);
    assert_ne!(honest["labels"], noisy["labels"]);
    // With an unreadable truth the round is the same and nothing is measured.
    fs::write(&file, "no table").unwrap();
    let none = run(&place, "none");
    assert_eq!((&none["result"], &none["labels"]), (&honest["result"], &Value::Null));
}

/// Changes the rows of a stage's result in the round.
fn tamper<R: TableRow>(place: &Workspace, stage: &str, change: impl Fn(&mut Vec<R>)) {
    let store = Store::open(&place.store()).unwrap();
    let round = store.head("t", "round-0001/round").unwrap().unwrap();
    let upstream = store.result(round.result).unwrap().unwrap().upstream;
    let is_of = |key: &&ActionKey| {
        store.action(**key).unwrap().stage == stage && store.result(**key).unwrap().unwrap().rows_of(R::TABLE) > 1
    };
    let key = *upstream.iter().find(is_of).unwrap();
    let mut result: StageResult = store.result(key).unwrap().unwrap();
    let at = result.outputs.iter().position(|output| output.role == R::TABLE).unwrap();
    let bytes = store.read_object(result.outputs[at].object).unwrap();
    let mut rows: Vec<R> = tables::read(R::TABLE, bytes::Bytes::from(bytes)).unwrap();
    change(&mut rows);
    let n = rows.len() as u64;
    let bytes = tables::to_bytes(rows).unwrap();
    let object = store.put_object(&bytes, ObjectKind::Parquet).unwrap();
    result.outputs[at] = Output { role: R::TABLE.into(), object, rows: n, bytes: bytes.len() as u64 };
    let name = key.to_string();
    fs::remove_file(place.store().join(format!("results/{}/{name}.json", &name[..2]))).unwrap();
    store.publish_result(&result).unwrap();
}

#[test]
fn an_inconsistent_row_is_named() {
    let names = |change: &dyn Fn(&Workspace), parts: &[&str]| {
        let place = place_with_round();
        run(&place, "store");
        change(&place);
        let (code, audit_json, stderr) = audit(&place, &[]);
        assert_eq!(code, 4, "{stderr}");
        let misaligned = audit_json["alignment"]["misaligned"].to_string();
        assert!(audit_json["alignment"]["count"].as_u64().unwrap() > 0);
        for part in parts {
            assert!(misaligned.contains(part), "{misaligned} lacks {part}");
        }
        assert!(stderr.contains(audit_json["alignment"]["misaligned"][0]["row"].as_str().unwrap()), "{stderr}");
    };
    // A majority that the answers did not vote for, and a confidence that is no share of them.
    names(
        &|place| {
            tamper::<VoteRow>(place, "answers", |rows| {
                rows[0].majority_answer = Some("17".into());
                rows[1].confidence = Some(0.123);
            });
        },
        &["majority_answer is Some(\\\"17\\\")", "confidence is 0.123"],
    );
    // A missing row that the rule keeps, which also breaks the row counts.
    names(&|place| tamper::<CurriculumRow>(place, "curriculum", |rows| drop(rows.remove(0))), &["\"curriculum\""]);
    names(
        &|place| tamper::<RejectRow>(place, "curriculum", |rows| rows[0].reason = "below".into()),
        &["\"rejects\"", "the reason is below"],
    );
    names(
        &|place| tamper::<RewardRow>(place, "rewards", |rows| rows[0].advantage += 0.5),
        &["advantage is", "\"rewards\""],
    );
}

#[test]
fn rounds_that_cannot_be_audited_are_reported() {
    let place = place_with_round();
    let fails = |arguments: &[&str], code: i32, part: &str| {
        let output = place.command(&[arguments, &["--pipeline", "p.toml"]].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr_of(&output));
        assert!(stderr_of(&output).contains(part), "{arguments:?}: {} lacks {part}", stderr_of(&output));
    };
    fails(&["audit", "1"], 2, "is not a visplay store");
    run(&place, "store");
    fails(&["audit", "2"], 1, "is not finished in `t`");
    fails(&["audit", "1", "--evolution", "u"], 1, "is not finished in `u`");
    fails(&["audit", "0"], 2, "0");
    fails(&["audit", "next"], 2, "next");
    fails(&["audit", "1", "--truth", "nowhere.parquet"], 2, "nowhere.parquet");
    fails(&["audit", "1", "--truth", "p.toml"], 2, "p.toml");
}
