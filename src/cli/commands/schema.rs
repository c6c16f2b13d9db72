//! `visplay schema`: writes or checks the schema files of the tables and of the pipeline file.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::cli::{CommandError, Result, Ui};
use crate::evolution::pipeline::Pipeline;
use crate::tables::schema_file::{self, SchemaDocument};

/// Write or check the schema files of the tables and of the pipeline file.
///
/// `schemas/<table>.json` describes a table's columns, their types and their meaning;
/// `schemas/pipeline.json` is the JSON Schema of pipeline files. They are generated from the code,
/// and --check fails if one is out of date.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay schema --write
  visplay schema --check
  visplay schema --write --dir /tmp/schemas")]
pub struct SchemaArgs {
    /// Write the files.
    #[arg(long, required_unless_present = "check", conflicts_with = "check")]
    write: bool,
    /// Fail if a file is missing, out of date or unknown.
    #[arg(long)]
    check: bool,
    /// Folder of the files.
    #[arg(long, value_name = "DIR", default_value = "schemas")]
    dir: PathBuf,
}

/// The state of a schema file, as `--json` prints it.
#[derive(Serialize)]
struct SchemaFile<'a> {
    file: String,
    state: &'a str,
}

/// Runs `visplay schema`.
pub fn cmd_schema(args: &SchemaArgs, ui: &Ui) -> Result<()> {
    let documents = documents()?;
    if args.write { write(&args.dir, &documents, ui) } else { check(&args.dir, &documents, ui) }
}

/// Returns every document of the folder.
fn documents() -> Result<Vec<SchemaDocument>> {
    let unwritable = |e: serde_json::Error| CommandError::failed(e.to_string());
    let mut documents = schema_file::documents().map_err(unwritable)?;
    documents.push(SchemaDocument::json("pipeline.json", &schemars::schema_for!(Pipeline)).map_err(unwritable)?);
    Ok(documents)
}

fn write(dir: &Path, documents: &[SchemaDocument], ui: &Ui) -> Result<()> {
    fs::create_dir_all(dir).map_err(|e| CommandError::failed(format!("cannot create {}: {e}", dir.display())))?;
    let mut files = Vec::new();
    for document in documents {
        let path = dir.join(&document.name);
        let state = if fs::read(&path).is_ok_and(|found| found == document.text.as_bytes()) {
            "unchanged"
        } else {
            fs::write(&path, &document.text)
                .map_err(|e| CommandError::failed(format!("cannot write {}: {e}", path.display())))?;
            "written"
        };
        files.push(SchemaFile { file: path.display().to_string(), state });
    }
    report(&files, ui)
}

fn check(dir: &Path, documents: &[SchemaDocument], ui: &Ui) -> Result<()> {
    let mut wrong = Vec::new();
    for document in documents {
        let path = dir.join(&document.name);
        match fs::read(&path) {
            Ok(found) if found == document.text.as_bytes() => {}
            Ok(_) => wrong.push(format!("{} is out of date", path.display())),
            Err(e) if e.kind() == ErrorKind::NotFound => wrong.push(format!("{} is missing", path.display())),
            Err(e) => wrong.push(format!("cannot read {}: {e}", path.display())),
        }
    }
    wrong.extend(unknown_files(dir, documents));
    if !wrong.is_empty() {
        let hint = format!("run `visplay schema --write --dir {}` and commit what it writes", dir.display());
        return Err(CommandError::failed(wrong.join("; ")).with_hint(hint));
    }
    let file = |document: &SchemaDocument| {
        let file = dir.join(&document.name).display().to_string();
        SchemaFile { file, state: "current" }
    };
    report(&documents.iter().map(file).collect::<Vec<_>>(), ui)
}

/// Returns complaints about JSON files that this command does not write, as after a table is
/// renamed.
fn unknown_files(dir: &Path, documents: &[SchemaDocument]) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut unknown: Vec<String> = names
        .filter(|name| name.ends_with(".json") && documents.iter().all(|document| document.name != *name))
        .map(|name| format!("{} is unknown (delete it)", dir.join(name).display()))
        .collect();
    unknown.sort();
    unknown
}

fn report(files: &[SchemaFile], ui: &Ui) -> Result<()> {
    if ui.json {
        return ui.result_json(files);
    }
    files.iter().try_for_each(|file| ui.result(format!("{:<9}  {}", file.state, file.file)))
}
