//! An accuracy comes with the share of answers that have a box, and with a warning where few have.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use visplay::tables::{PredictionRow, read_file};

use crate::rounds::{PIPELINE, place, report};
use crate::support::{Workspace, stderr_of};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn evaluate(place: &Workspace, more: &[&str]) -> std::process::Output {
    let (model, benchmark) = (project("data/nano"), project("data/benchmarks/scenes.parquet"));
    let mut command = place.command(&["evaluate", "--items", "3", "--model"]);
    command.arg(model).arg("--benchmark").arg(benchmark).args(more).output().unwrap()
}

#[test]
fn no_box_and_all_wrong_are_told_apart() {
    let place = Workspace::in_memory();
    // Two tokens are no whole box.
    let cut = evaluate(&place, &["--max-tokens", "2", "--majority", "3"]);
    let (stdout, stderr) = (String::from_utf8_lossy(&cut.stdout).into_owned(), stderr_of(&cut));
    assert!(cut.status.success(), "{stderr}");
    for protocol in ["greedy", "sampled", "majority"] {
        let line = stdout.lines().find(|line| line.starts_with(&format!("{protocol}: 0.000"))).unwrap();
        assert!(line.ends_with("answers with a \\boxed{}: 0.000"), "{line}");
        assert!(stderr.contains(&format!("0.0 % of the answers of the protocol {protocol} have a \\boxed{{}}")));
    }
    assert!(stderr.contains("--prompt pipelines/prompts/paper-reasoner.txt"), "{stderr}");
    // The same answers, from the store, as JSON.
    let cut = evaluate(&place, &["--max-tokens", "2", "--majority", "3", "--json"]);
    let scores: Value = serde_json::from_slice(&cut.stdout).unwrap();
    assert!(scores["scores"].as_array().unwrap().iter().all(|score| score["boxed_share"] == 0.0), "{scores}");
    assert!(stderr_of(&cut).contains("warning: 0.0 %"));
    // Whole answers have boxes, right or wrong.
    let whole = evaluate(&place, &["--sampled", "0", "--json"]);
    let scores: Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert!(scores["scores"].as_array().unwrap().iter().all(|score| score["boxed_share"] == 1.0), "{scores}");
    assert!(!stderr_of(&whole).contains("warning"), "{}", stderr_of(&whole));
}

#[test]
fn the_prompt_of_the_help_asks_for_a_box_and_is_built_in() {
    let place = Workspace::in_memory();
    let help = place.command(&["evaluate", "--help"]).output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let shipped = "pipelines/prompts/paper-reasoner.txt";
    let example = help.rsplit_once("--model models/qwen2.5-vl-3b").unwrap().1;
    assert!(example.contains(&format!("--prompt {shipped}")), "{example}");
    assert!(std::fs::read_to_string(project(shipped)).unwrap().contains("\\boxed{}"));
    // The working directory has no such file.
    let output = evaluate(&place, &["--max-tokens", "1", "--sampled", "0", "--prompt", shipped]);
    assert!(output.status.success(), "{}", stderr_of(&output));
    let unknown = evaluate(&place, &["--prompt", "pipelines/prompts/nowhere.txt"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", stderr_of(&unknown));
}

#[test]
fn a_round_reports_the_share_of_answers_with_a_box() {
    let place = place();
    let benchmark = project("data/benchmarks/scenes.parquet");
    let text = format!(
        "{PIPELINE}[evaluation]\nbenchmarks = [\"{}\"]\nitems = 2\nprotocols = {{ greedy = true, sampled = 0, \
         max_tokens = 1 }}\n",
        benchmark.display()
    );
    std::fs::write(place.path().join("p.toml"), text).unwrap();
    let arguments = ["evolve-round", "1", "--pipeline", "p.toml", "--images", "source"];
    let output = place.command(&[&arguments[..], &["--json"]].concat()).output().unwrap();
    let done = report(&output);
    // Both Reasoners' predictions are in the round's view.
    let mut boxed = [(0.0, 0.0); 2];
    for file in place.files("views/t/round=1/predictions") {
        for row in read_file::<PredictionRow>(&file).unwrap() {
            let side = usize::from(row.model_id.to_string() == done["report"]["reasoner_model"].as_str().unwrap());
            boxed[side].0 += f64::from(u8::from(row.extracted_answer.is_some()));
            boxed[side].1 += 1.0;
        }
    }
    let [before, after] = boxed.map(|(boxed, all): (f64, f64)| boxed / all);
    for score in [&done["report"]["scores"][0], &done["rounds"][0]["scores"][0]] {
        assert_eq!(score["boxed_share"], json!({ "before": before, "after": after }), "{score}");
    }
    let warned = stderr_of(&output).contains("of the answers of scenes (greedy) have a \\boxed{}");
    assert_eq!(warned, after < 0.5, "{after}: {}", stderr_of(&output));
    // With two rounds, every accuracy of the table of rounds has its share.
    let second = ["evolve-round", "2", "--pipeline", "p.toml"];
    let both = report(&place.command(&[&second[..], &["--json"]].concat()).output().unwrap());
    let output = place.command(&second).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_heading = |line: &&str| line.split_whitespace().take(2).eq(["round", "valid"]);
    let lines: Vec<&str> = stdout.lines().skip_while(|line| !is_heading(line)).collect();
    assert!(lines.len() > 3 && lines[0].contains("greedy"), "{stdout}");
    let shares = [&both["rounds"][0]["scores"][0], &both["rounds"][1]["scores"][0]].map(|s| &s["boxed_share"]);
    for (line, share) in lines[1..].iter().zip([&shares[0]["before"], &shares[0]["after"], &shares[1]["after"]]) {
        assert!(line.contains(&format!("(boxed {:.3})", share.as_f64().unwrap())), "{line}");
    }
    let output = place.command(&arguments[..4]).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let heading = stdout.lines().find(|line| line.trim_start().starts_with("accuracy")).unwrap();
    assert!(heading.ends_with("answers with a box"), "{stdout}");
    assert!(stdout.lines().any(|line| line.ends_with(&format!("{before:.3} -> {after:.3}"))), "{stdout}");
}
