//! `visplay schema`: writes or checks the descriptions of the tables that are kept under version control.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::cli::error::CommandError;
use crate::cli::output::ui::Ui;
use crate::evolution::pipeline::Pipeline;
use crate::tables::schema_file::{self, SchemaDocument};

/// Write or check the files that describe the tables and the pipeline file.
///
/// Every table has a file `schemas/<table>.json` with its columns, their types and what they mean; `schemas/pipeline.json`
/// is the JSON Schema of pipeline files. All are made from the program, and `--check` fails when one is stale.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay schema --write
  visplay schema --check
  visplay schema --write --dir /tmp/schemas")]
pub struct SchemaArgs {
    /// Write the files.
    #[arg(long, required_unless_present = "check", conflicts_with = "check")]
    write: bool,
    /// Fail if a file is missing, stale or not one of ours.
    #[arg(long)]
    check: bool,
    /// The folder of the files.
    #[arg(long, value_name = "DIR", default_value = "schemas")]
    dir: PathBuf,
}

/// What was done with a file, as `--json` prints it.
#[derive(Serialize)]
struct Outcome<'a> {
    file: String,
    state: &'a str,
}

/// Runs `visplay schema`.
pub fn cmd_schema(args: &SchemaArgs, ui: &Ui) -> Result<(), CommandError> {
    let documents = documents()?;
    if args.write { write(&args.dir, &documents, ui) } else { check(&args.dir, &documents, ui) }
}

/// Everything that is kept in the folder. A module with another document adds it here.
fn documents() -> Result<Vec<SchemaDocument>, CommandError> {
    let unwritable = |e: serde_json::Error| CommandError::failed(e.to_string());
    let mut documents = schema_file::documents().map_err(unwritable)?;
    documents.push(SchemaDocument::json("pipeline.json", &schemars::schema_for!(Pipeline)).map_err(unwritable)?);
    Ok(documents)
}

fn write(dir: &Path, documents: &[SchemaDocument], ui: &Ui) -> Result<(), CommandError> {
    fs::create_dir_all(dir).map_err(|e| CommandError::failed(format!("{}: cannot create: {e}", dir.display())))?;
    let mut outcomes = Vec::new();
    for document in documents {
        let path = dir.join(&document.name);
        let state = if fs::read(&path).is_ok_and(|found| found == document.text.as_bytes()) {
            "unchanged"
        } else {
            fs::write(&path, &document.text)
                .map_err(|e| CommandError::failed(format!("{}: cannot write: {e}", path.display())))?;
            "written"
        };
        outcomes.push(Outcome { file: path.display().to_string(), state });
    }
    report(&outcomes, ui)
}

fn check(dir: &Path, documents: &[SchemaDocument], ui: &Ui) -> Result<(), CommandError> {
    let mut wrong = Vec::new();
    for document in documents {
        let path = dir.join(&document.name);
        match fs::read(&path) {
            Ok(found) if found == document.text.as_bytes() => {}
            Ok(_) => wrong.push(format!("{} is stale", path.display())),
            Err(e) if e.kind() == ErrorKind::NotFound => wrong.push(format!("{} is missing", path.display())),
            Err(e) => wrong.push(format!("{}: cannot read: {e}", path.display())),
        }
    }
    wrong.extend(strangers(dir, documents));
    if !wrong.is_empty() {
        let hint = format!("run `visplay schema --write --dir {}` and commit what it writes", dir.display());
        return Err(CommandError::failed(wrong.join("; ")).with_hint(hint));
    }
    let outcome = |document: &SchemaDocument| {
        let file = dir.join(&document.name).display().to_string();
        Outcome { file, state: "current" }
    };
    report(&documents.iter().map(outcome).collect::<Vec<_>>(), ui)
}

/// JSON files in the folder that the program does not write, as after a table is renamed.
fn strangers(dir: &Path, documents: &[SchemaDocument]) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut strangers: Vec<String> = names
        .filter(|name| name.ends_with(".json") && documents.iter().all(|document| document.name != *name))
        .map(|name| format!("{} is not one of the program's (delete it)", dir.join(name).display()))
        .collect();
    strangers.sort();
    strangers
}

fn report(outcomes: &[Outcome], ui: &Ui) -> Result<(), CommandError> {
    if ui.json {
        return ui.result_json(outcomes);
    }
    outcomes.iter().try_for_each(|outcome| ui.result(format!("{:<9}  {}", outcome.state, outcome.file)))
}
