//! Published scorers of benchmarks against what their own code says.
//!
//! `tests/data/benchmarks/*.dev.jsonl` are invented cases with the outcomes of the published code;
//! `tests/oracles/benchmarks.jsonl` are random and adversarial ones
//! (`tests/oracles/benchmarks.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use visplay::benchmarks::Scorer;
use visplay::random::Seed;

type Case = Map<String, Value>;

/// Keys of an outcome.
const OUTCOME: [&str; 6] = ["extracted", "correct", "score", "calls", "temperatures", "fallback"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cases(path: &Path) -> Vec<Case> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn golden() -> Vec<Case> {
    let folder = fs::read_dir(root().join("tests/data/benchmarks")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
    files.flat_map(|path| cases(&path)).collect()
}

/// Whether two values are the same; numbers by value, and the extracted candidates in any order.
fn is_same(key: &str, expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::Array(expected), Value::Array(actual)) if key == "extracted" => {
            let is_in = |one: &Value, list: &[Value]| list.iter().any(|other| is_same("", one, other));
            expected.len() == actual.len() && expected.iter().all(|one| is_in(one, actual))
        }
        (Value::Array(expected), Value::Array(actual)) => {
            expected.len() == actual.len() && expected.iter().zip(actual).all(|(a, b)| is_same("", a, b))
        }
        (Value::Number(expected), Value::Number(actual)) => expected.as_f64() == actual.as_f64(),
        _ => expected == actual,
    }
}

/// Returns the number of cases by scorer.
fn check(cases: &[Case]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut differing = Vec::new();
    for case in cases {
        let name = case["scorer"].as_str().unwrap();
        *counts.entry(name.to_owned()).or_default() += 1;
        let outcome = Scorer::by_name(name).unwrap().score(case, Seed(1)).unwrap();
        // A letter that the published code draws at random is any of the options'.
        let is_random = case.get("fallback").is_some();
        let expected = |key: &str| case.get(key).unwrap_or(&Value::Null);
        let actual = |key: &str| outcome.get(key).unwrap_or(&Value::Null);
        let is_right = OUTCOME.iter().all(|key| match (is_random, *key) {
            (true, "extracted") => case["item"]["options"].get(actual(key).as_str().unwrap()).is_some(),
            (true, "correct") => actual(key).is_boolean(),
            (_, key) => is_same(key, expected(key), actual(key)),
        });
        if !is_right {
            differing.push(format!("{}\n  gives {}", Value::from(case.clone()), Value::from(outcome)));
        }
    }
    assert!(differing.is_empty(), "{} of {} differ:\n{}", differing.len(), cases.len(), differing.join("\n"));
    counts
}

#[test]
fn golden_cases_have_the_published_outcomes() {
    let counts = check(&golden());
    assert_eq!(counts.values().sum::<usize>(), 1428, "{counts:?}");
    let names: Vec<String> = counts.into_keys().collect();
    let mut expected = Scorer::ALL.map(Scorer::name).to_vec();
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn random_responses_have_the_published_outcomes() {
    let counts = check(&cases(&root().join("tests/oracles/benchmarks.jsonl")));
    for scorer in ["vlmevalkit-choice", "mmmu-official-open", "vlmevalkit-mathv", "mathv-official", "vlmevalkit-yesno"]
    {
        assert!(counts[scorer] >= 250, "{counts:?}");
    }
}

#[test]
fn drawn_letters_are_spread_and_marked() {
    let random: Vec<Case> = golden().into_iter().filter(|case| case.contains_key("fallback")).collect();
    assert!(random.len() >= 20);
    let letters = |seed| -> Vec<String> {
        let score = |case: &Case| Scorer::MmmuOfficialChoice.score(case, Seed(seed)).unwrap();
        random.iter().map(|case| score(case)["extracted"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(letters(1), letters(1));
    assert_ne!(letters(1), letters(2));
    let different: std::collections::BTreeSet<String> = letters(1).into_iter().collect();
    assert!(different.len() >= 3, "{different:?}");
}

#[test]
fn a_case_without_its_keys_is_an_error() {
    for name in ["vlmevalkit-choice", "mmvet-official", "mathverse-truncate", "visplay-judge-reply", "mathv-official"] {
        assert!(Scorer::by_name(name).unwrap().score(&Case::new(), Seed(0)).is_err(), "{name}");
    }
    let endless = serde_json::json!({"judge_replies": ["<429>"]});
    assert!(Scorer::MmVetOfficial.score(endless.as_object().unwrap(), Seed(0)).is_err());
    assert_eq!(Scorer::by_name("no such scorer"), None);
}
