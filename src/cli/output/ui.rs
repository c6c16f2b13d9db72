//! The printer: results on standard output, messages on standard error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::cli::{CommandError, Result, format};
use crate::messages::write_message;

/// Prints a command's results, as text or as JSON, and its messages.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    /// Whether results are printed as JSON (`--json`).
    pub json: bool,
    /// Whether messages are suppressed (`--quiet`).
    pub quiet: bool,
}

impl Ui {
    /// Returns whether standard error can show a progress bar.
    pub fn shows_progress_bar(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Prints a line of the result. A closed pipe (`visplay .. | head`) is not an error.
    pub fn result(&self, line: impl AsRef<str>) -> Result<()> {
        self.result_if_read(line).map(drop)
    }

    /// Prints a line of the result, and returns whether anybody can still read the next one.
    pub fn result_if_read(&self, line: impl AsRef<str>) -> Result<bool> {
        match io::stdout().lock().write_all(format!("{}\n", line.as_ref()).as_bytes()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(e) => Err(CommandError::failed(format!("cannot write to standard output: {e}"))),
            Ok(()) => Ok(true),
        }
    }

    /// Prints rows as aligned columns; the first row is the heading.
    pub fn table(&self, rows: &[Vec<String>]) -> Result<()> {
        format::columns(rows).iter().try_for_each(|line| self.result(line))
    }

    /// Prints rows as aligned columns, indented below a line of their own.
    pub fn indented_table(&self, rows: &[Vec<String>]) -> Result<()> {
        format::columns(rows).iter().try_for_each(|line| self.result(format!("  {line}")))
    }

    /// Prints the result as one line of JSON.
    pub fn result_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<()> {
        self.result(serde_json::to_string(value).map_err(CommandError::from_failure)?)
    }

    /// Prints a message that is no part of the result, unless `--quiet`.
    pub fn say(&self, line: impl AsRef<str>) {
        if !self.quiet {
            write_message(line.as_ref());
        }
    }
}
