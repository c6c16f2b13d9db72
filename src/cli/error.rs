//! The one place where an error becomes a message, a hint and an exit code.

use std::fmt::Write as _;

use super::exit;

/// What a command ends with when it does not end well.
#[derive(Debug)]
pub struct CommandError {
    /// The exit code, one of [`exit`].
    pub code: u8,
    /// What is wrong, with the file, line, key or row that it is about.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl CommandError {
    /// A failure while doing what was asked (exit code 1).
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: exit::FAILED, message: message.into(), hint: None }
    }

    /// An unusable command line, file or input (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: exit::USAGE, message: message.into(), hint: None }
    }

    /// The same error with what to do about it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A failure from an error of the library, its causes in one line.
    pub fn from_chain(code: u8, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many errors already print their cause; saying it twice helps nobody.
            if !message.contains(&text) {
                let _ = write!(message, ": {text}");
            }
            source = cause.source();
        }
        Self { code, message, hint: None }
    }

    /// Prints the message and the hint to standard error.
    pub fn print(&self) {
        eprintln!("visplay: {}", self.message);
        if let Some(hint) = &self.hint {
            eprintln!("  hint: {hint}");
        }
    }
}
