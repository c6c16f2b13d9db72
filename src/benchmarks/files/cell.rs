//! Rows of a file, and errors in them.

use serde_json::{Map, Value};
use thiserror::Error;

/// Error in a row.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("row {row}, column {column}: {problem}")]
pub struct RowError {
    /// Row, from 1, without a header.
    pub row: u64,
    /// Column; empty if the row as a whole is at fault.
    pub column: String,
    /// Description of the problem.
    pub problem: String,
}

/// A row: its number from 1, and its cells by column. A missing cell is absent or null.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Number, from 1, without a header.
    pub number: u64,
    /// Cells.
    pub cells: Map<String, Value>,
}

impl Row {
    /// Returns an error in a column.
    pub fn error(&self, column: &str, problem: impl Into<String>) -> RowError {
        RowError { row: self.number, column: column.to_owned(), problem: problem.into() }
    }

    /// Returns the text of a cell, numbers and truth values as they are written; `None` if it is
    /// missing.
    ///
    /// # Errors
    /// The cell is a list or an object.
    pub fn text(&self, column: &str) -> Result<Option<String>, RowError> {
        match self.cells.get(column) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::Bool(true)) => Ok(Some("True".to_owned())),
            Some(Value::Bool(false)) => Ok(Some("False".to_owned())),
            Some(_) => Err(self.error(column, "it is a list or an object, not a text")),
        }
    }

    /// Returns the text of the first of several columns that has one.
    ///
    /// # Errors
    /// A cell is a list or an object.
    pub fn first_text(&self, columns: &[&str]) -> Result<Option<String>, RowError> {
        for column in columns {
            if let Some(text) = self.text(column)? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// Returns the text of a cell that an item needs.
    ///
    /// # Errors
    /// The cell is missing, or no text.
    pub fn required(&self, column: &str) -> Result<String, RowError> {
        self.text(column)?.ok_or_else(|| self.error(column, "it is missing"))
    }
}
