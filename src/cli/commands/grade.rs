//! `visplay grade`: whether two answers are the same.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::error::CommandError;
use crate::cli::output::jsonl::{Line, LinesArgs, Order, for_each_line, kind};
use crate::cli::output::ui::Ui;
use crate::grading::{Verdict, Via, compare};

/// Decide whether answers are the same, as votes and rewards decide it.
///
/// Reads lines {"given": "..", "gold": ".."} and prints them with "equal" and "via", the rule that decided: text, first-form,
/// second-form or symbolic where they are equal; empty, brackets, length, fraction, integer, symbolic, words or unreadable
/// where they are not (docs/grading.md says what each means). An answer may be a number; null is no answer and equals
/// nothing. Other keys pass through.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay grade pairs.jsonl > graded.jsonl
  echo '{\"given\": \"\\\\frac{1}{2}\", \"gold\": \"0.5\"}' | visplay grade
  jq -c '{given: .prediction, gold: .answer}' labels.jsonl | visplay grade | jq -c 'select(.equal | not)'")]
pub struct GradeArgs {
    #[command(flatten)]
    lines: LinesArgs,
}

/// Runs `visplay grade`.
pub fn cmd_grade(args: &GradeArgs, ui: &Ui) -> Result<(), CommandError> {
    for_each_line(&args.lines, ui, Order::Parallel, |line| {
        let (given, gold) = (answer(line, "given")?, answer(line, "gold")?);
        let verdict = match (given, gold) {
            (Some(given), Some(gold)) => compare(&given, &gold),
            _ => Verdict { equal: false, via: Via::Empty },
        };
        Ok(vec![("equal", Value::from(verdict.equal)), ("via", json!(verdict.via))])
    })
}

fn answer(line: &Line, key: &str) -> Result<Option<String>, String> {
    match line.get(key)? {
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Null => Ok(None),
        other => Err(format!("\"{key}\" is {}, not an answer", kind(other))),
    }
}
