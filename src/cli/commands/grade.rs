//! `visplay grade`: equality of answers.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::output::jsonl::{Line, LinesArgs, Order, for_each_line, kind_of};
use crate::cli::{Result, Ui};
use crate::grading::{Comparison, MatchRule, compare};

/// Grade answers against gold answers, as votes and rewards do.
///
/// Reads lines {"given": "..", "gold": ".."} and adds "equal" and "via", the rule that decided:
/// text, first-form, second-form or symbolic for equal answers; empty, brackets, length, fraction,
/// integer, symbolic, words or unreadable for different ones (see docs/grading.md). An answer may
/// be a number; null equals nothing. Other keys pass through.
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
pub fn cmd_grade(args: &GradeArgs, ui: &Ui) -> Result<()> {
    for_each_line(&args.lines, ui, Order::Parallel, |line| {
        let (given, gold) = (answer(line, "given")?, answer(line, "gold")?);
        let verdict = match (given, gold) {
            (Some(given), Some(gold)) => compare(&given, &gold),
            _ => Comparison { equal: false, rule: MatchRule::Empty },
        };
        Ok(vec![("equal", Value::from(verdict.equal)), ("via", json!(verdict.rule))])
    })
}

fn answer(line: &Line, key: &str) -> Result<Option<String>, String> {
    match line.get(key)? {
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Null => Ok(None),
        other => Err(format!("\"{key}\" is {}, not an answer", kind_of(other))),
    }
}
