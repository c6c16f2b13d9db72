//! The printer: results go to standard output, talk goes to standard error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::cli::error::CommandError;

/// How a command speaks: a person's table or a script's JSON on standard output, everything else on standard error.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    /// Results are JSON (`--json`).
    pub json: bool,
    /// No talk but errors (`--quiet`).
    pub quiet: bool,
}

impl Ui {
    /// Whether standard error is a terminal that can show a progress bar.
    pub fn progress_is_live(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Prints a line of the result. A closed pipe (`visplay .. | head`) ends the output without an error.
    pub fn result(&self, line: impl AsRef<str>) -> Result<(), CommandError> {
        write_result(line.as_ref())
    }

    /// Prints a result as one JSON document on a line.
    pub fn result_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), CommandError> {
        write_result(&serde_json::to_string(value).map_err(|e| CommandError::failed(e.to_string()))?)
    }

    /// Says something to the person at the terminal; never part of the result.
    pub fn say(&self, line: impl AsRef<str>) {
        if !self.quiet {
            eprintln!("{}", line.as_ref());
        }
    }
}

fn write_result(line: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    match out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(CommandError::failed(format!("cannot write to standard output: {e}"))),
        Ok(()) => Ok(()),
    }
}
