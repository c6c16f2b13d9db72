//! Properties of every command: help with an example, one-line errors with advice, JSON and tables.

use std::process::Command;

use serde_json::Value;

use crate::support::{VISPLAY, Workspace, stderr_of};

const COMMANDS: [&str; 18] = [
    "ingest",
    "status",
    "show",
    "log",
    "why",
    "verify",
    "gc",
    "grade",
    "clusters",
    "rewards",
    "rescore",
    "scenes",
    "doctor",
    "branch",
    "lineage",
    "replay",
    "audit",
    "evolve-round",
];

#[test]
fn every_command_has_help_with_an_example() {
    for command in COMMANDS.into_iter().chain(["completions"]) {
        let output = Command::new(VISPLAY).args([command, "--help"]).output().unwrap();
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}");
        assert!(help.contains("Examples:") && help.contains(&format!("visplay {command}")), "{command}: {help}");
    }
}

#[test]
fn a_wrong_flag_key_or_store_is_an_error_with_advice() {
    let place = Workspace::new();
    place.fill(2);
    let fails = |arguments: &[&str], code: i32, parts: &[&str]| {
        let output = place.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr_of(&output));
        for part in parts {
            assert!(stderr_of(&output).contains(part), "{arguments:?}: {} lacks {part}", stderr_of(&output));
        }
    };
    for command in COMMANDS {
        fails(&[command, "--bogus"], 2, &["--bogus", "--help"]);
    }
    for command in [&["status"][..], &["log"], &["verify"], &["gc"], &["show", "t/images"]] {
        fails(command, 2, &["store", "--store"]);
    }
    place.ingest();
    fails(&["show", "t/imagse"], 2, &["did you mean `t/images`"]);
    fails(&["show", "t/images@9"], 2, &["t/images@9"]);
    fails(&["show", "zz"], 2, &["neither a ref nor a digest"]);
    std::fs::create_dir_all(place.store().join("objects/ef")).unwrap();
    std::fs::write(place.store().join("objects/ef/x"), "x").unwrap();
    fails(&["show", "efab"], 2, &["nothing in the store"]);
    fails(&["show", "00000000000000"], 2, &["nothing in the store"]);
    fails(&["ingest", "source", "--evolution", "../x"], 2, &["--evolution"]);
    fails(&["ingest", "source", "--threads", "0"], 2, &["--threads"]);
    fails(
        &["staus"],
        2,
        &["there is no command `staus`\n", "hint: a similar command exists: `status`; see `visplay --help`"],
    );
    std::fs::write(place.path().join("small.toml"), "evolution = \"t\"\n[ingest]\nshard_row = 8\n").unwrap();
    fails(&["ingest", "source"], 2, &["small.toml:3", "shard_row", "did you mean `shard_rows`"]);
    std::fs::write(place.path().join("file"), "x").unwrap();
    fails(&["status", "--store", "file"], 2, &["file"]);
}

#[test]
fn results_are_printed_as_json() {
    let place = Workspace::new();
    place.fill(5);
    let done = place.ingest();
    assert_eq!(place.json(&["status"])["refs"][0]["counts"]["rows_out"], 5);
    assert_eq!(place.json(&["log"])[0]["action"]["stage"], "ingest");
    let shown = place.json(&["show", "t/images"]);
    assert_eq!(shown["digest"], done["result"]);
    let key = shown["key"].as_str().unwrap();
    assert_eq!(place.json(&["show", &key[..12]]), place.json(&["show", key]));
    let output = &shown["result"]["outputs"][0];
    let table = place.json(&["show", output["object"]["digest"].as_str().unwrap()]);
    assert_eq!(table["rows"], output["rows"]);
    assert_eq!(place.json(&["verify", "--full"])["problems"], Value::Array(vec![]));
    assert!(place.json(&["doctor"])["cores"].as_u64().unwrap() > 0);
    assert_eq!(place.json(&["why", "ingest"])["differences"], Value::Array(vec![]));
    assert_eq!(place.json(&["why", "ingest", "source"])["new"], Value::Array(vec![]));
    place.add(7);
    assert_eq!(place.json(&["why", "ingest", "source"])["new"].as_array().unwrap().len(), 1);
}

#[test]
fn results_are_printed_as_tables() {
    let place = Workspace::new();
    place.fill(5);
    for (arguments, part) in [
        (&["ingest", "source"][..], "t/images@1 has 5 images"),
        (&["status"], "t/images@1"),
        (&["log"], "ingest.pack"),
        (&["show", "t/images"], "5 in = 5 out + 0 rejects"),
        (&["verify", "--full"], "no problems"),
        (&["why", "ingest"], "nothing changed"),
        (&["gc"], "would be deleted"),
        (&["doctor"], "cores"),
    ] {
        let output = place.command(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains(part), "{arguments:?}: {text}{}", stderr_of(&output));
    }
}
