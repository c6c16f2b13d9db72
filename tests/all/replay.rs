//! Replays: every stage of a round reproduces its stored result, and differences are named.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};
use visplay::store::{ObjectKind, Output, StageResult, Store};
use visplay::tables::{self, AnswerRow, PROFILE, ScoreRow, TableRow, TableWriter, WriterProfile};

use crate::rounds::{PIPELINE, evolve, place, report};
use crate::support::{VISPLAY, Workspace, stderr_of};

/// Returns an evolution with one round that has every part.
fn place_with_round() -> Workspace {
    let place = place();
    let bench = ["scenes", "--count", "10", "--seed", "7", "--benchmark", "bench.parquet"];
    assert!(place.command(&bench).output().unwrap().status.success());
    let evaluation = "[evaluation]\nbenchmarks = [\"bench.parquet\"]\n\
                      protocols = { greedy = true, sampled = 2, majority = 3, max_tokens = 1 }\n";
    std::fs::write(place.path().join("p.toml"), format!("{PIPELINE}{evaluation}")).unwrap();
    std::fs::write(place.path().join("source/broken.png"), "no image").unwrap();
    report(&evolve(&place, "store", &["1", "--images", "source"]).output().unwrap());
    place
}

fn run(place: &Workspace, target: &str, more: &[&str]) -> (i32, Value, String) {
    let scratch = place.path().join("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    let start = ["replay", target, "--pipeline", "p.toml", "--images", "source", "--json", "--scratch", "scratch"];
    let output = place.command(&[&start[..], more].concat()).output().unwrap();
    // The scratch folder is removed.
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), value, stderr_of(&output))
}

fn levels(replayed: &Value) -> BTreeSet<String> {
    replayed["results"].as_array().unwrap().iter().map(|result| result["level"].to_string()).collect()
}

fn parts(replayed: &Value) -> BTreeMap<String, usize> {
    let mut parts = BTreeMap::new();
    for result in replayed["results"].as_array().unwrap() {
        *parts.entry(result["part"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    parts
}

#[test]
fn every_stage_of_a_round_is_reproduced_bit_for_bit() {
    let place = place_with_round();
    let files = || -> BTreeMap<_, _> {
        let all = place.files("").into_iter();
        all.map(|file| (file.clone(), std::fs::read(&file).unwrap())).collect()
    };
    let before = files();
    let (code, all, stderr) = run(&place, "t/round-0001", &[]);
    assert_eq!((code, levels(&all)), (0, BTreeSet::from(["\"bits\"".to_owned()])), "{stderr} {all}");
    let replayed = parts(&all);
    let words = [
        "answers",
        "base",
        "curriculum",
        "evaluation",
        "images",
        "keep-best",
        "models",
        "questions",
        "rewards",
        "round",
        "update",
    ];
    assert_eq!(replayed.keys().map(String::as_str).collect::<Vec<_>>(), words);
    // Three steps of each role.
    assert_eq!((replayed["update"], replayed["rewards"]), (6, 6));
    assert_eq!(files(), before);

    // Settings, prompts and images are those of the round, not of today's files.
    let text = std::fs::read_to_string(place.path().join("p.toml")).unwrap();
    std::fs::write(place.path().join("p.toml"), text.replace("low = 0.1", "low = 0.2")).unwrap();
    std::fs::create_dir(place.path().join("prompts")).unwrap();
    std::fs::write(place.path().join("prompts/nano-questioner.txt"), "Ask {{image}}").unwrap();
    for (target, least) in [
        ("t/round-1/questions", 4),
        ("t/round-1/votes", 4),
        ("t/round-1/reasoner", 3),
        ("t/round-1/curriculum", 1),
        ("t/images", 4),
    ] {
        let (code, some, stderr) = run(&place, target, &[]);
        assert_eq!((code, levels(&some)), (0, BTreeSet::from(["\"bits\"".to_owned()])), "{target}: {stderr}");
        assert!(some["results"].as_array().unwrap().len() >= least, "{target}: {some}");
    }
    let (code, sample, _) = run(&place, "t/round-1", &["--sample", "5", "--seed", "3"]);
    assert_eq!((code, sample["results"].as_array().unwrap().len()), (0, 5));
    assert_eq!(sample["of"].as_u64().unwrap() as usize, all["results"].as_array().unwrap().len());
    let (_, same, _) = run(&place, "t/round-1", &["--sample", "5", "--seed", "3"]);
    assert_eq!(same["results"], sample["results"]);
    let (_, other, _) = run(&place, "t/round-1", &["--sample", "5", "--seed", "4"]);
    assert_ne!(other["results"], sample["results"]);
    // By the key of an action, and by the digest of an object.
    let key = all["results"][0]["action"].as_str().unwrap();
    let (code, one, _) = run(&place, &key[..16], &[]);
    assert_eq!((code, &one["results"][0]["action"]), (0, &json!(key)));
    let shown = place.json(&["show", key]);
    let object = shown["result"]["outputs"][0]["object"]["digest"].as_str().unwrap();
    let (code, by_object, stderr) = run(&place, object, &[]);
    assert_eq!((code, levels(&by_object)), (0, BTreeSet::from(["\"bits\"".to_owned()])), "{stderr}");
    // Without --json.
    let text = place.command(&["replay", "t/round-1/curriculum", "--pipeline", "p.toml"]).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("identical, bit for bit"), "{text}");
}

/// Changes the rows of a result of a part.
fn tamper<R: TableRow + Serialize>(
    place: &Workspace,
    part: &str,
    profile: WriterProfile,
    change: impl Fn(&mut Vec<R>),
) -> StageResult {
    let (_, replayed, stderr) = run(place, &format!("t/round-1/{part}"), &[]);
    let results = replayed["results"].as_array().unwrap_or_else(|| panic!("{stderr}"));
    let store = Store::open(&place.store()).unwrap();
    let all = results
        .iter()
        .map(|result| store.result(result["action"].as_str().unwrap().parse().unwrap()).unwrap().unwrap());
    let mut all = all;
    let mut result = all.find(|result| result.rows_of(R::TABLE) > 0).unwrap();
    let at = result.outputs.iter().position(|output| output.role == R::TABLE).unwrap();
    let bytes = store.read_object(result.outputs[at].object).unwrap();
    let mut rows: Vec<R> = tables::read(R::TABLE, bytes::Bytes::from(bytes)).unwrap();
    change(&mut rows);
    let mut writer = TableWriter::with_profile(Vec::new(), profile).unwrap();
    let n = rows.len() as u64;
    rows.into_iter().for_each(|row| writer.push(row).unwrap());
    let bytes = writer.finish().unwrap();
    let object = store.put_object(&bytes, ObjectKind::Parquet).unwrap();
    result.outputs[at] = Output { role: R::TABLE.into(), object, rows: n, bytes: bytes.len() as u64 };
    let key = result.action.to_string();
    std::fs::remove_file(place.store().join(format!("results/{}/{key}.json", &key[..2]))).unwrap();
    store.publish_result(&result).unwrap();
    result
}

#[test]
fn differences_are_named() {
    let place = place_with_round();
    let level = |result: &StageResult| {
        let (code, replayed, stderr) = run(&place, &result.action.to_string(), &[]);
        (code, replayed["results"][0].clone(), stderr)
    };
    // The same rows with another writer profile.
    let result = tamper::<AnswerRow>(&place, "votes", WriterProfile { number: 99, ..PROFILE }, |_| {});
    let (code, replayed, _) = level(&result);
    assert_eq!((code, &replayed["level"]), (0, &json!("rows")), "{replayed}");
    // Log-probabilities within and beyond the tolerance.
    let result = tamper::<AnswerRow>(&place, "votes", PROFILE, |rows| rows[1].logprobs[0] += 4e-6);
    let (code, replayed, _) = level(&result);
    assert_eq!((code, &replayed["level"]), (0, &json!("tolerances")), "{replayed}");
    let result = tamper::<AnswerRow>(&place, "votes", PROFILE, |rows| rows[1].logprobs[0] += 1e-3);
    let id = {
        let store = Store::open(&place.store()).unwrap();
        let object = result.outputs_of(AnswerRow::TABLE).next().unwrap().object;
        let rows: Vec<AnswerRow> =
            tables::read("answers", bytes::Bytes::from(store.read_object(object).unwrap())).unwrap();
        rows[1].answer_id.to_string()
    };
    let (code, replayed, stderr) = level(&result);
    assert_eq!((code, &replayed["level"]), (1, &Value::Null), "{replayed}");
    assert!(stderr.contains("1 of 1 recomputed results differ"), "{stderr}");
    let first = &replayed["mismatches"][0];
    assert_eq!(
        (&first["table"], &first["row"], &first["column"]),
        (&json!("answers"), &json!(id), &json!("logprobs[0]"))
    );
    let [stored, again] = ["stored", "again"].map(|side| first[side].as_f64().unwrap());
    assert!((stored - again - 1e-3).abs() < 1e-5, "{first}");
    // A missing row.
    let result = tamper::<ScoreRow>(&place, "scores", PROFILE, |rows| drop(rows.pop()));
    let (code, replayed, _) = level(&result);
    assert_eq!((code, &replayed["mismatches"][0]["column"]), (1, &json!("number of rows")), "{replayed}");
    // In a replay of the whole round, stages after the changed answers are requested differently.
    let (code, all, _) = run(&place, "t/round-1", &[]);
    assert_eq!(code, 1);
    let reasons: Vec<&str> = all["results"].as_array().unwrap().iter().filter_map(|r| r["not_made"].as_str()).collect();
    assert!(reasons.iter().all(|why| why.contains("differ from the stored action")), "{reasons:?}");
    assert!(!reasons.is_empty());
}

#[test]
fn results_that_cannot_be_replayed_are_reported() {
    let place = place_with_round();
    let fails = |target: &str, code: i32, parts: &[&str]| {
        let output = place.command(&["replay", target, "--pipeline", "p.toml"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{target}: {}", stderr_of(&output));
        for part in parts {
            assert!(stderr_of(&output).contains(part), "{target}: {} lacks {part}", stderr_of(&output));
        }
    };
    fails("t/round-1/questons", 2, &["not a part of a round", "did you mean `questions`"]);
    fails("t/round-2", 2, &["round 2 of `t` is not finished"]);
    fails("u/round-1", 2, &["`u` is not finished"]);
    fails("u/images", 2, &["`u` has no images"]);
    fails("t/rounds-1", 2, &["neither a round such as `round-1`"]);
    fails("t/round-1/a/b", 2, &["too many parts"]);
    fails("zz", 2, &["neither a ref nor a digest"]);
    fails("00000000", 2, &["nothing in the store"]);
    // A changed benchmark is reported for its own results only.
    let bench = ["scenes", "--count", "10", "--seed", "8", "--benchmark", "bench.parquet"];
    assert!(place.command(&bench).output().unwrap().status.success());
    let (code, replayed, stderr) = run(&place, "t/round-1/evaluation", &[]);
    assert_eq!(code, 1, "{stderr}");
    assert!(replayed["results"][0]["not_made"].as_str().unwrap().contains("inputs.items"), "{replayed}");
    let (code, ..) = run(&place, "t/round-1/questions", &[]);
    assert_eq!(code, 0);
    // The store does not have the bytes of rejected files.
    let without = std::process::Command::new(VISPLAY)
        .args(["replay", "t/images", "--pipeline", "p.toml", "--store", "store", "--json"])
        .current_dir(place.path())
        .output()
        .unwrap();
    assert_eq!(without.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&without.stdout).contains("pass the folders"), "{}", stderr_of(&without));
}
