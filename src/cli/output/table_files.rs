//! Tables that a command line names: Parquet files, and folders of them.

use std::path::{Path, PathBuf};

use crate::cli::error::CommandError;
use crate::tables::{self, TableRow};

/// The rows of a table in files and in folders of files, in the order of their names.
pub fn read_all<R: TableRow>(paths: &[PathBuf]) -> Result<Vec<R>, CommandError> {
    let mut rows = Vec::new();
    for path in paths {
        for file in files_of(path)? {
            rows.extend(tables::read_file::<R>(&file)?);
        }
    }
    Ok(rows)
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, CommandError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |e: std::io::Error| CommandError::failed(format!("{}: cannot be listed: {e}", path.display()));
    let mut files = Vec::new();
    for entry in path.read_dir().map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|e| e == "parquet") {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(CommandError::usage(format!("{} has no .parquet files", path.display())));
    }
    files.sort();
    Ok(files)
}
