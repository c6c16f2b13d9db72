//! `visplay grade`, `clusters` and `rewards` run as a process.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::{VISPLAY, stderr_of};

fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(VISPLAY);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    output
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn grade_adds_its_verdict_and_keeps_the_other_keys() {
    let input = "{\"given\": \"\\\\frac{1}{2}\", \"id\": 1.50, \"gold\": \"0.5\"}\n\n  {\"z\":1,\"given\":\"2/4\",\"gold\":\"1/2\",\"a\":[1]}\r\n{\"gold\":5,\"given\":\"5.0\"}\n{\"given\":null,\"gold\":\"\"}";
    let output = run(&["grade"], input.as_bytes());
    assert!(output.status.success(), "{}", stderr_of(&output));
    let expected = [
        r#"{"given": "\\frac{1}{2}", "id": 1.50, "gold": "0.5","equal":true,"via":"first-form"}"#,
        r#"{"z":1,"given":"2/4","gold":"1/2","a":[1],"equal":false,"via":"fraction"}"#,
        r#"{"gold":5,"given":"5.0","equal":true,"via":"second-form"}"#,
        r#"{"given":null,"gold":"","equal":false,"via":"empty"}"#,
    ];
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn grading_twice_replaces_the_verdict() {
    let output = run(&["grade", "-"], br#"{"given":"1","equal":false,"gold":"1","via":"words","k":0.10}"#);
    assert_eq!(lines(&output), [json!({"given": "1", "gold": "1", "k": 0.1, "equal": true, "via": "text"})]);
    let input = r#" { "id": 12345678901234567890123, "given":"1", "equal":true,"s":"\"},{\u0041\\", "l": [1.50, {"equal": 1e2}],"gold":"1"} "#;
    let expected = r#"{"id": 12345678901234567890123,"given":"1","s":"\"},{\u0041\\","l": [1.50, {"equal": 1e2}],"gold":"1","equal":true,"via":"text"}"#;
    assert_eq!(String::from_utf8(run(&["grade"], input.as_bytes()).stdout).unwrap().trim_end(), expected);
}

#[test]
fn invalid_lines_are_reported_and_valid_ones_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pairs.jsonl");
    let good = r#"{"given":"a","gold":"A"}"#;
    std::fs::write(
        &file,
        [
            good.as_bytes(),
            b"\n{\"given\":\"a\"\n[]\n{\"given\":1}\n{\"given\":true,\"gold\":\"\"}\n\xff\n",
            good.as_bytes(),
        ]
        .concat(),
    )
    .unwrap();
    let output = run(&["grade", file.to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(2), "{}", stderr_of(&output));
    assert_eq!(lines(&output).len(), 2);
    let errors = String::from_utf8(output.stderr).unwrap();
    for part in [
        "pairs.jsonl:2: not a JSON object",
        "pairs.jsonl:3: ",
        "pairs.jsonl:4: no key \"gold\"",
        "pairs.jsonl:5: \"given\" is a boolean",
        "pairs.jsonl:6: ",
        "5 of 7 lines",
    ] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    let missing = run(&["grade", "no-such-file"], b"");
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr_of(&missing).contains("no-such-file") && stderr_of(&missing).contains("hint"));
    assert_eq!(run(&["grade", folder.path().to_str().unwrap()], b"").status.code(), Some(2));
}

#[test]
fn many_lines_keep_their_order() {
    let input: String = (0..30_000).map(|i| format!("{{\"given\":\"{i}\",\"gold\":\"{}\"}}\n", i - i % 2)).collect();
    let output = run(&["grade"], input.as_bytes());
    for (i, line) in lines(&output).iter().enumerate() {
        assert_eq!((line["given"].as_str(), line["equal"].as_bool()), (Some(i.to_string().as_str()), Some(i % 2 == 0)));
    }
    assert!(output.status.success());
}

#[test]
fn clusters_have_shares_and_numbers() {
    let input = br#"{"questions": ["How many dots are there ?", "", "How many dots are there", "Why"], "image": "a"}
{"questions": []}
{"questions": ["only"]}
{"questions": [1]}
{"questions": "no"}"#;
    let output = run(&["clusters"], input);
    let found = lines(&output);
    assert_eq!(found[0]["shares"], json!([0.5, 0.25, 0.5, 0.25]));
    assert_eq!((&found[0]["clusters"], &found[0]["image"]), (&json!([0, 1, 0, 2]), &json!("a")));
    assert_eq!((&found[1]["shares"], &found[2]["shares"]), (&json!([]), &json!([1.0])));
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr_of(&output).contains("\"questions\"[0] is a number"), "{}", stderr_of(&output));
}

#[test]
fn rewards_are_printed_with_their_parts() {
    let input = br#"{"step": 3, "groups": [[{"question":"how many dots are there","valid":true,"confidence":0.5,"x":1},{"question":"what colour is the sky","valid":true,"confidence":0.75}],[{"valid":false},{"question":"how many dots are there","valid":true,"confidence":1}]]}"#;
    let paper = lines(&run(&["rewards", "--preset", "paper"], input)).remove(0);
    assert_eq!(paper["rewards"], json!([[0.5, 0.0], [0.0, 0.0]]));
    assert_eq!(
        (&paper["uncertainty"], &paper["shares"]),
        (&json!([[1.0, 0.5], [0.0, 0.0]]), &json!([[0.5, 0.5], [0.5, 0.5]]))
    );
    assert_eq!((&paper["step"], &paper["cluster_sizes"]), (&json!(3), &json!([[1, 1], [1, 1]])));
    let code = lines(&run(&["rewards", "-", "--preset", "released-code"], input)).remove(0);
    assert_eq!(
        (&code["rewards"], &code["diversity"]),
        (&json!([[0.0, 0.0], [-1.25, -0.5]]), &json!([[0.5, 0.25], [0.25, 0.5]]))
    );
    let mixed =
        lines(&run(&["rewards", "--preset", "released-code", "--scope", "group", "--lambda", "0"], input)).remove(0);
    assert_eq!(mixed["rewards"], json!([[0.5, 0.25], [-1.0, 0.0]]));
}

#[test]
fn an_invalid_step_is_explained() {
    let cases = [
        (r#"{"groups": 1}"#, "\"groups\" is a number"),
        (r#"{"groups": [1]}"#, "\"groups\"[0] is a number"),
        (r#"{"groups": [[1]]}"#, "\"groups\"[0][0] is a number"),
        (r#"{"groups": [[], [{"question":"q"}]]}"#, "\"groups\"[1][0] has no \"valid\""),
        (r#"{"groups": [[{"valid":true,"confidence":1}]]}"#, "no string \"question\""),
        (r#"{"groups": [[{"valid":true,"question":"q"}]]}"#, "no number \"confidence\""),
        (r#"{"groups": [[{"valid":true,"question":"q","confidence":1.5}]]}"#, "a confidence of 1.5"),
    ];
    for (line, message) in cases {
        let output = run(&["rewards", "--preset", "paper"], line.as_bytes());
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr_of(&output).contains(message) && stderr_of(&output).contains("standard input:1:"),
            "{}",
            stderr_of(&output)
        );
    }
    for (arguments, message) in [
        (&["rewards", "--preset", "papr"][..], "paper, released-code"),
        (&["rewards"], "--preset"),
        (&["rewards", "--preset", "paper", "--lambda", "NaN"], "--lambda"),
        (&["rewards", "--preset", "paper", "--lambda", "-0.5"], "--lambda is -0.5"),
        (&["rewards", "--preset", "paper", "--scope", "all"], "group or step"),
    ] {
        let output = run(arguments, b"");
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr_of(&output).contains(message), "{}", stderr_of(&output));
    }
}
