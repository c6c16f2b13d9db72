//! The command `visplay rescore` on stored tables.

use std::process::Command;

use serde_json::Value;
use visplay::ids::{Digest, GroupId, ImageId, ModelId, PromptId, QuestionId};
use visplay::reward::Preset;
use visplay::tables::{self, Finish, QuestionRow, VoteRow};

use crate::support::{VISPLAY, Workspace, stderr_of};

fn question(n: u32, group: u32, text: Option<&str>) -> QuestionRow {
    let id = |what: &str, i: u32| Digest::of(format!("{what} {i}").as_bytes());
    QuestionRow {
        question_id: QuestionId(id("question", n)),
        image_id: ImageId(id("image", group)),
        group_id: GroupId(id("group", group)),
        sample: n,
        seed: 1,
        prompt_id: PromptId(id("prompt", 0)),
        model_id: ModelId(id("model", 0)),
        prompt_tokens: 10,
        raw_text: text.unwrap_or("garbage").to_owned(),
        token_ids: vec![1, 2],
        logprobs: vec![-0.5, -0.25],
        finish: Finish::Stop,
        valid: text.is_some(),
        invalid_reason: text.is_none().then(|| "form".to_owned()),
        question_type: None,
        question: text.map(str::to_owned),
        claimed_answer: None,
    }
}

fn vote(of: &QuestionRow, counts: &[u32], silent: u32) -> VoteRow {
    let boxed: u32 = counts.iter().sum();
    let most = counts.iter().max().copied().unwrap_or(0);
    VoteRow {
        question_id: of.question_id,
        image_id: of.image_id,
        sampled: boxed + silent,
        boxed,
        class_answers: (0..counts.len()).map(|i| i.to_string()).collect(),
        class_counts: counts.to_vec(),
        majority_answer: (!counts.is_empty()).then(|| "0".to_owned()),
        majority_count: most,
        runner_up_count: counts.get(1).copied().unwrap_or(0),
        confidence: None,
        margin: None,
        greedy_answer: None,
        greedy_agrees: None,
    }
}

/// Returns a folder with two images and three questions each: one output is invalid, and one
/// question has no boxed answer.
fn place() -> Workspace {
    let place = Workspace::new();
    let questions = vec![
        question(0, 0, Some("how many red circles are there")),
        question(1, 0, Some("how many red circles are there")),
        question(2, 0, None),
        question(3, 1, Some("is there a blue square in this image")),
        question(4, 1, Some("which colour is most common here")),
        question(5, 1, Some("what does the box hold")),
    ];
    let counts: [(&[u32], u32); 6] = [(&[5, 5], 0), (&[8, 2], 0), (&[], 0), (&[6, 2], 2), (&[], 10), (&[5, 4], 1)];
    let votes = questions.iter().zip(counts).filter(|(q, _)| q.valid).map(|(q, (c, s))| vote(q, c, s));
    let votes: Vec<VoteRow> = votes.collect();
    std::fs::write(place.path().join("q.parquet"), tables::to_bytes(questions).unwrap()).unwrap();
    std::fs::write(place.path().join("v.parquet"), tables::to_bytes(votes).unwrap()).unwrap();
    place
}

fn rescore(place: &Workspace, more: &[&str]) -> Value {
    place.json(&[&["rescore", "--questions", "q.parquet", "--votes", "v.parquet"], more].concat())
}

#[test]
fn rescore_shows_what_other_settings_would_change() {
    let place = place();
    let found = rescore(&place, &["--preset", "paper", "--low", "0.3", "--high", "0.8", "--min-margin", "0.1"]);
    // c = 0.5, 0.8, -, 0.6, nothing boxed, 0.5; margins 0, 0.6, -, 0.4, -, 0.1.
    let before = &found["before"];
    assert_eq!(before["kept"], 3);
    assert_eq!(before["dropped"], serde_json::json!({"above_band": 1, "invalid": 1, "no_answer": 1}));
    assert_eq!(found["after"]["kept"], 3);
    assert_eq!(found["after"]["dropped"], serde_json::json!({"small_margin": 1, "invalid": 1, "no_answer": 1}));
    let changed = found["changed"].as_array().unwrap();
    assert_eq!(changed.len(), 2);
    assert!(
        changed.iter().any(|c| c["before"]["dropped"] == "above_band" && c["after"]["kept"] == true),
        "{changed:?}"
    );
    assert!(changed.iter().any(|c| c["after"]["dropped"] == "small_margin" && c["before"]["confidence"].is_f64()));
    assert_eq!(before["rewards"]["n"], 6);
    // Paper rewards: max(0, r_unc - cluster / 3). The two equal questions lose 2/3, the others 1/3.
    let rewards = [1.0 - 2.0 / 3.0, 0.0, 0.0, 0.8 - 1.0 / 3.0, 0.0, 1.0 - 1.0 / 3.0];
    let mean: f64 = rewards.iter().sum::<f64>() / 6.0;
    assert!((before["rewards"]["mean"].as_f64().unwrap() - mean).abs() < 1e-12, "{before}");
}

#[test]
fn presets_can_be_compared() {
    let found = rescore(&place(), &["--preset", "paper", "--to", "released-code"]);
    // Without the answers that have no box, c = 0.5, 0.8, -, 0.75, -, 5/9; and one question
    // contains "box".
    assert_eq!(found["after"]["kept"], 3);
    assert_eq!(found["after"]["dropped"], serde_json::json!({"question_contains": 1, "invalid": 1, "no_answer": 1}));
}

#[test]
fn the_filter_works_where_clustering_fails() {
    let questions: Vec<QuestionRow> = (0..16_385).map(|n| question(n, 0, Some("how many"))).collect();
    let votes = [vote(&questions[0], &[5, 5], 0), vote(&questions[1], &[9, 1], 0)];
    let scored = visplay::analysis::rescore::rescore(&questions, &votes, Preset::named("paper").unwrap());
    assert_eq!((scored.kept, scored.dropped["above_band"], scored.dropped["no_vote"]), (1, 1, 16_383));
    assert!(scored.questions.iter().all(|q| q.reward.is_none()));
    assert!(scored.note.unwrap().contains("16385 questions in one scope"));
}

#[test]
fn unchanged_settings_change_nothing() {
    let found = rescore(&place(), &["--preset", "paper"]);
    assert_eq!(found["before"], found["after"]);
    assert_eq!(found["changed"], Value::Array(vec![]));
}

#[test]
fn invalid_settings_and_files_are_named() {
    let place = place();
    let fails = |more: &[&str], part: &str| {
        let start = ["rescore", "--questions", "q.parquet", "--preset", "paper"];
        let output = Command::new(VISPLAY).args(start).args(more).current_dir(place.path()).output().unwrap();
        assert!(!output.status.success());
        assert!(stderr_of(&output).contains(part), "{more:?}: {}", stderr_of(&output));
    };
    fails(&["--votes", "v.parquet", "--low", "2"], "--low is 2");
    fails(&["--votes", "v.parquet", "--lambda", "-1"], "--lambda is -1");
    fails(&["--votes", "v.parquet", "--low", "-0.1"], "--low is -0.1");
    fails(&["--votes", "v.parquet", "--low", "0.9"], "--low is above --high");
    fails(&["--votes", "v.parquet", "--to", "papre"], "papre");
    fails(&["--votes", "q.parquet"], "q.parquet");
    fails(&["--votes", "nowhere.parquet"], "nowhere.parquet");
    fails(&["--votes", "source"], "source contains no .parquet files");
}
