//! Snapshots of everything the commands print: help, tables and error messages.
//!
//! A change of words shows up as a diff of `snapshots/*.snap`. Review it, then accept it with
//! `INSTA_UPDATE=always cargo test --release --test all snapshots::`. Under `CI=true` a difference
//! fails the test and nothing is written.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use regex::Regex;

use crate::rounds;
use crate::support::{VISPLAY, Workspace};

/// Runs the command with a fixed terminal width and without a terminal.
fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(VISPLAY);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.env_remove("VISPLAY_STORE").env_remove("COLUMNS").output().unwrap()
}

/// Compares a text with `snapshots/NAME.snap`.
fn assert_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::new();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Replaces the parts of an output that differ from run to run or from machine to machine.
fn redact(text: &str, folder: &Path) -> String {
    static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let patterns = [
            (r"(?m)^(cores|SIMD|memory|disk|GPU)( +).*$", "$1$2[MACHINE]"),
            (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "[TIME]"),
            (r"\b\d+ min \d\d s\b|\b\d+(\.\d+)? (ms|s)\b", "[DURATION]"),
            (r"\b\d+(\.\d+)? (B|[KMGT]iB)\b", "[SIZE]"),
            (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "[DIGEST]"),
            (r"\S+/\d+$", "[PROCESS]"),
            (r" on \S+ for \[DURATION\]", " on [HOST] for [DURATION]"),
            // The widths of redacted columns differ too.
            (r"(\S) {2,}", "$1  "),
            (r"(?m)^ {3,}", "  "),
        ];
        patterns.map(|(pattern, with)| (Regex::new(pattern).unwrap(), with)).into()
    });
    let text = text.replace(&folder.display().to_string(), "[DIR]");
    let redact_line = |line: &str| {
        let redact = |line: String, (pattern, with): &(Regex, &str)| pattern.replace_all(&line, *with).into_owned();
        PATTERNS.iter().fold(line.to_owned(), redact)
    };
    text.lines().map(redact_line).collect::<Vec<_>>().join("\n")
}

/// Replaces the numbers of what commands print: those of a round differ between classes of CPUs.
fn redact_numbers(text: &str) -> String {
    let number = Regex::new(r"\d[\d,]*(\.\d+)?").unwrap();
    let redact_line = |line: &str| match line.starts_with("$ ") || line.starts_with("exit code") {
        true => line.to_owned(),
        false => number.replace_all(line, "N").into_owned(),
    };
    text.lines().map(redact_line).collect::<Vec<_>>().join("\n")
}

/// Formats a command line with its exit code and everything it printed.
fn transcript(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let printed = [&output.stdout[..], &output.stderr].map(|bytes| redact(&String::from_utf8_lossy(bytes), folder));
    let code = output.status.code().unwrap();
    let lines = [format!("$ visplay {}", arguments.join(" ")), printed.join("\n"), format!("exit code {code}")];
    let lines: Vec<&str> = lines.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
    lines.join("\n")
}

#[test]
fn the_help_of_every_command() {
    const COMMANDS: [&[&str]; 35] = [
        &[],
        &["ingest"],
        &["evolve-round"],
        &["work"],
        &["submit"],
        &["cancel"],
        &["drain"],
        &["logs"],
        &["branch"],
        &["status"],
        &["show"],
        &["log"],
        &["why"],
        &["lineage"],
        &["replay"],
        &["audit"],
        &["model"],
        &["model", "inspect"],
        &["model", "generate"],
        &["model", "score"],
        &["model", "export"],
        &["model", "random"],
        &["verify"],
        &["gc"],
        &["grade"],
        &["clusters"],
        &["rewards"],
        &["rescore"],
        &["scenes"],
        &["scenes", "truth"],
        &["warm-start"],
        &["evaluate"],
        &["doctor"],
        &["completions"],
        &["schema"],
    ];
    for command in COMMANDS {
        let output = run(Path::new("."), &[command, &["--help"]].concat());
        let name = [&["help"], command].concat().join("-");
        assert_snapshot(&name, &String::from_utf8(output.stdout).unwrap());
    }
    // A command that is missing above has no snapshot.
    let help = String::from_utf8(run(Path::new("."), &["--help"]).stdout).unwrap();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A summary that goes on in the next line is indented further.
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    for command in names.filter(|name| *name != "help") {
        assert!(COMMANDS.contains(&&[command][..]), "the help of {command} has no snapshot");
    }
}

#[test]
fn the_tables_about_a_round() {
    let place = rounds::place();
    let print = |name: &str, commands: &[&[&str]]| {
        let texts: Vec<String> = commands.iter().map(|arguments| transcript(place.path(), arguments)).collect();
        assert_snapshot(name, &redact_numbers(&texts.join("\n\n")));
    };
    let evolve = ["evolve-round", "1", "--pipeline", "p.toml", "--store", "store"];
    let dry_run = [&evolve[..], &["--dry-run"]].concat();
    print("dry-run-before", &[&[&dry_run[..], &["--images", "source"]].concat()]);
    print("evolve-round", &[&[&evolve[..], &["--quiet", "--images", "source"]].concat()]);
    std::fs::write(place.path().join("other.toml"), rounds::PIPELINE.replace("low = 0.1", "low = 0.2")).unwrap();
    print(
        "dry-run-after",
        &[
            &dry_run,
            &["evolve-round", "2", "--pipeline", "p.toml", "--store", "store", "--dry-run"],
            &["evolve-round", "1", "--pipeline", "other.toml", "--evolution", "u", "--store", "store", "--dry-run"],
        ],
    );
    print("status", &[&["status", "--store", "store"]]);
    print("log", &[&["log", "--stage", "ingest", "--store", "store"]]);
    print("show", &[&["show", "t/images", "--store", "store"], &["show", "t/round-0001/round", "--store", "store"]]);
    print("verify", &[&["verify", "--full", "--store", "store"]]);
    print("gc", &[&["gc", "--store", "store"]]);
    print("why", &[&["why", "ingest", "source", "--pipeline", "p.toml", "--store", "store"]]);
    print("audit", &[&["audit", "1", "--pipeline", "p.toml", "--store", "store"]]);
    print("replay", &[&["replay", "t/round-0001/curriculum", "--pipeline", "p.toml", "--store", "store"]]);
    let view = "store/views/t/round=1";
    let (questions, votes) = (format!("{view}/questions"), format!("{view}/votes"));
    print(
        "rescore",
        &[&[
            "rescore",
            "--questions",
            &questions,
            "--votes",
            &votes,
            "--preset",
            "paper",
            "--low",
            "0.3",
            "--high",
            "0.8",
        ]],
    );
    print(
        "branch",
        &[&[
            "branch",
            "b",
            "--from",
            "round-1",
            "--set",
            "curriculum.low=0.2",
            "--pipeline",
            "p.toml",
            "--store",
            "store",
        ]],
    );
    let images = run(place.path(), &["show", "t/images", "--store", "store", "--json"]);
    let images: serde_json::Value = serde_json::from_slice(&images.stdout).unwrap();
    let object = images["result"]["outputs"][0]["object"]["digest"].as_str().unwrap();
    print("lineage", &[&["lineage", object, "--store", "store"]]);
    print("model-inspect", &[&["model", "inspect", "base", "--sequences", "1,8"]]);
    print("doctor", &[&["doctor", "--device", "cpu", "--store", "store"]]);
}

#[test]
fn error_messages() {
    let place = Workspace::new();
    place.fill(2);
    let write = |name: &str, text: &str| {
        let file = place.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write("p.toml", "evolution = \"t\"\n");
    write("unknown-key.toml", "evolution = \"t\"\n[ingest]\nshard_row = 8\n");
    write("wrong-type.toml", "evolution = \"t\"\n[ingest]\nshard_rows = \"8\"\n");
    write("out-of-range.toml", "evolution = \"t\"\n[curriculum]\nlow = 2.0\n");
    write("no-base.toml", "evolution = \"t\"\n[model]\nbase = \"nowhere\"\n");
    write("not-toml.toml", "evolution = \n");
    write("file", "x");
    write("empty-model/config.json", "{}");
    let nano = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/model/nano-like");
    write("no-weights/config.json", &std::fs::read_to_string(nano.join("config.json")).unwrap());
    write("cut-weights/config.json", &std::fs::read_to_string(nano.join("config.json")).unwrap());
    write("cut-weights/model.safetensors", "x");
    write("pairs.jsonl", "{\"given\":\"1\"}\n[]\nx\n");
    let ingested = run(place.path(), &["ingest", "source", "--pipeline", "p.toml", "--store", "store"]);
    assert!(ingested.status.success(), "{}", String::from_utf8_lossy(&ingested.stderr));
    let cases = |name: &str, lines: &[&str]| {
        let split = |line: &&str| transcript(place.path(), &line.split(' ').collect::<Vec<_>>());
        assert_snapshot(name, &lines.iter().map(split).collect::<Vec<_>>().join("\n\n"));
    };
    cases(
        "errors-command-line",
        &[
            "staus",
            "status --bogus",
            "status --jsn",
            "ingest",
            "ingest source --threads 0",
            "ingest source --threads many",
            "evolve-round",
            "evolve-round 0",
            "evolve-round 1 --device gpu",
            "model",
            "model inspct",
            "model export model",
            "model inspect model --dtype f64",
            "lineage 3fa9c0 --up --down",
            "verify --quick --full",
            "gc --grace",
            "rewards",
            "rewards --preset papr",
            "rewards --preset paper --lambda -0.5",
            "rewards --preset paper --scope all",
            "branch b --from two",
            "branch b --from base --set low",
            "scenes",
            "scenes --count 1 --out drawn --demonstrations --wrong 2",
            "scenes --count 1 --out drawn --demonstrations --weight colour",
            "schema",
            "schema --check --write",
            "completions tcsh",
            "why training",
        ],
    );
    cases(
        "errors-pipeline",
        &[
            "ingest source --pipeline nowhere.toml --store store",
            "ingest source --pipeline unknown-key.toml --store store",
            "ingest source --pipeline wrong-type.toml --store store",
            "ingest source --pipeline out-of-range.toml --store store",
            "ingest source --pipeline not-toml.toml --store store",
            "ingest source --pipeline p.toml --evolution ../x --store store",
            "ingest nowhere --pipeline p.toml --store store",
            "evolve-round 1 --pipeline no-base.toml --store store",
            "evolve-round 1 --pipeline no-base.toml --evolution u --store store",
            "branch ../x --from base --pipeline p.toml --store store",
            "branch b --from base --set curriculum.lw=0.3 --pipeline p.toml --store store",
            "branch b --from round-3 --pipeline p.toml --store store",
        ],
    );
    cases(
        "errors-store",
        &[
            "status --store nowhere",
            "status --store file",
            "show t/imagse --store store",
            "show t/images@9 --store store",
            "show t/images@x --store store",
            "show zz --store store",
            "show 0000000000 --store store",
            "lineage 12 --store store",
            "lineage 0000000000 --store store",
            "replay t/round-0001 --pipeline p.toml --store store",
            "audit 1 --pipeline p.toml --store store",
        ],
    );
    cases(
        "errors-files",
        &[
            "grade nowhere.jsonl",
            "grade pairs.jsonl",
            "rescore --questions nowhere.parquet --votes nowhere.parquet --preset paper",
            "rescore --questions file --votes file --preset paper",
            "rescore --questions source --votes source --preset paper --low 0.9",
            "scenes truth nowhere.parquet --out truth.parquet",
            "schema --check --dir nowhere",
            "model inspect nowhere",
            "model inspect empty-model",
            "model inspect no-weights",
            "model inspect cut-weights",
            "model generate --model no-weights --prompt x --temperature -1",
            "model export no-weights out",
            "warm-start --model no-weights --data nowhere.parquet --out out --store store",
            "warm-start --model no-weights --data nowhere.parquet --out out --adapter-out a --store store",
            "warm-start --model no-weights --data file --out source --store store",
            "warm-start --model no-weights --data file --out out --learning-rate -1 --store store",
            "evaluate --model nowhere --benchmark file --store store",
            "evaluate --model nowhere --benchmark nowhere.parquet --store store",
            "evaluate --model nowhere --benchmark file --no-greedy --sampled 0 --store store",
        ],
    );
}
