//! `visplay schema`: the files in `schemas/` are up to date, and stale files are reported.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::VISPLAY;

fn schema(arguments: &[&str]) -> Output {
    Command::new(VISPLAY).arg("schema").args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_files_of_the_project_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let output = schema(&["--check", "--dir", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn stale_missing_and_unknown_files_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("schemas");
    let dir = path.to_str().unwrap();
    assert!(schema(&["--write", "--dir", dir]).status.success());
    assert!(schema(&["--check", "--dir", dir]).status.success());
    let again = String::from_utf8(schema(&["--write", "--dir", dir]).stdout).unwrap();
    assert!(again.contains("unchanged") && !again.contains("written"), "{again}");

    let votes = path.join("votes.json");
    let text = fs::read_to_string(&votes).unwrap();
    fs::write(&votes, text.replace("majority", "minority")).unwrap();
    fs::remove_file(path.join("scores.json")).unwrap();
    fs::write(path.join("moods.json"), "{}").unwrap();
    let output = schema(&["--check", "--dir", dir]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(message.contains("votes.json is out of date"), "{message}");
    assert!(message.contains("scores.json is missing"), "{message}");
    assert!(message.contains("moods.json is unknown"), "{message}");
    assert!(message.contains("visplay schema --write"), "{message}");
}

#[test]
fn write_or_check_is_required() {
    assert_eq!(schema(&[]).status.code(), Some(2));
    assert_eq!(schema(&["--write", "--check"]).status.code(), Some(2));
}
