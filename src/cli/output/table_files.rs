//! Tables named on the command line: Parquet files, and folders of Parquet files.

use std::path::{Path, PathBuf};

use crate::cli::{CommandError, Result};
use crate::tables::{self, TableRow};

/// Reads the rows of a table from files and folders; the files of a folder in order of name.
pub fn read_all<R: TableRow>(paths: &[PathBuf]) -> Result<Vec<R>> {
    let mut rows = Vec::new();
    for path in paths {
        for file in files_of(path)? {
            rows.extend(tables::read_file::<R>(&file)?);
        }
    }
    Ok(rows)
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable =
        |e: std::io::Error| CommandError::failed(format!("{}: cannot list the folder: {e}", path.display()));
    let entries = path.read_dir().and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut files: Vec<PathBuf> = entries.map_err(unreadable)?;
    files.retain(|file| file.extension().is_some_and(|e| e == "parquet"));
    if files.is_empty() {
        return Err(CommandError::usage(format!("{} contains no .parquet files", path.display())));
    }
    files.sort();
    Ok(files)
}
