//! `visplay lineage`: the origins of an item of the store and everything derived from it.

use clap::Args;
use serde_json::{Value, json};

use crate::analysis::lineage::{LineageError, lineage};
use crate::cli::args::StoreArgs;
use crate::cli::{CommandError, Result, Ui, format};

/// Show where an item came from and what was derived from it.
///
/// The id names a question (or curriculum row), an answer, an image, a benchmark item, a model, a
/// prompt, a result or an object; its first digits (at least 4) are enough. Upstream are the image
/// and its source, the prompt, the weights and the training step that wrote them, and the seed.
/// Downstream are the vote with every sample, its class and the grader's rule; whether the
/// curriculum kept the question, or why not; the gates; rewards and advantages; the updates that
/// used it and the checkpoint they led to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay lineage 3fa9c0
  visplay lineage 3fa9c0 --up
  visplay lineage 3fa9c0 --json | jq .down.votes")]
pub struct LineageArgs {
    /// An id, or its first digits.
    #[arg(value_name = "ID")]
    id: String,
    /// Show only where it came from.
    #[arg(long, conflicts_with = "down")]
    up: bool,
    /// Show only what was derived from it.
    #[arg(long)]
    down: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// Number of candidates listed for an ambiguous id.
const MAX_CANDIDATES: usize = 20;
/// Number of rows printed of a list; `--json` prints all.
const MAX_ROWS: usize = 40;
/// Fields printed first, in this order; the others follow by name.
const FIELD_ORDER: &str = "\
    id, question, answer, type, valid, label, text, is, names, image, prompt, weights, \
    trained from, seed, made by, vote, votes, fate, question's fate, gates, rewards, updates, \
    steps, stage, action, in, step, sample, source, size, class, rule, kept, reason, detail, \
    majority, majority count, runner-up count, confidence, margin, sampled, boxed, classes, \
    count, role, reward, advantage, correct, protocol, gate, figure, samples";
/// Maximum number of characters of a text in a column.
const MAX_WIDTH: usize = 64;

/// Runs `visplay lineage`.
pub fn cmd_lineage(args: &LineageArgs, ui: &Ui) -> Result<()> {
    let store = args.store.open()?;
    let result = lineage(&store, &args.id.to_lowercase())?;
    let (up, down) = (!args.down, !args.up);
    if ui.json {
        let mut value = json!({"kind": result.kind, "id": result.id, "what": result.description});
        if up {
            value["up"] = result.up;
        }
        if down {
            value["down"] = result.down;
        }
        return ui.result_json(&value);
    }
    ui.result(format!("{} {}", result.kind.name(), result.id))?;
    print(&result.description, 1, ui)?;
    if up {
        ui.result("up")?;
        print(&result.up, 1, ui)?;
    }
    if down {
        ui.result("down")?;
        print(&result.down, 1, ui)?;
    }
    Ok(())
}

impl From<LineageError> for CommandError {
    fn from(e: LineageError) -> Self {
        let message = e.to_string();
        match e {
            LineageError::Store(e) => e.into(),
            LineageError::Table(e) => e.into(),
            LineageError::Ambiguous { candidates, .. } => {
                let listed = candidates.iter().take(MAX_CANDIDATES).map(|c| format!("\n  {} {}", c.kind.name(), c.id));
                let more = candidates.len().saturating_sub(MAX_CANDIDATES);
                let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
                Self::usage(format!("{message}{}{more}", listed.collect::<String>())).with_hint("pass more digits")
            }
            LineageError::NoId(_) | LineageError::Unknown(_) => Self::usage(message)
                .with_hint("ids are in the tables under `views`; `visplay log` and `visplay status` list results"),
        }
    }
}

/// Prints a value as indented lines; a list of flat objects as columns.
fn print(value: &Value, depth: usize, ui: &Ui) -> Result<()> {
    let indent = "  ".repeat(depth);
    let Value::Object(fields) = value else { return ui.result(format!("{indent}{}", scalar(value))) };
    let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
    fields.sort_by_key(|(name, _)| rank(name));
    for (name, value) in fields {
        match value {
            Value::Null => {}
            Value::Array(items) if items.is_empty() => {}
            Value::Object(inner) if inner.is_empty() => {}
            Value::Object(_) => {
                ui.result(format!("{indent}{name}"))?;
                print(value, depth + 1, ui)?;
            }
            Value::Array(items) if items.iter().all(is_flat) => {
                ui.result(format!("{indent}{name} ({})", format::count(items.len() as u64)))?;
                for line in table(items) {
                    ui.result(format!("{indent}  {line}"))?;
                }
            }
            Value::Array(items) if items.iter().all(|item| !item.is_object()) => {
                let all: Vec<String> = items.iter().map(scalar).collect();
                ui.result(format!("{indent}{name}: {}", all.join("; ")))?;
            }
            Value::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    ui.result(format!("{indent}{name} {}", n + 1))?;
                    print(item, depth + 1, ui)?;
                }
            }
            _ => ui.result(format!("{indent}{name}: {}", scalar(value)))?,
        }
    }
    Ok(())
}

/// Returns the sort key of a field.
fn rank(name: &str) -> (usize, String) {
    (FIELD_ORDER.split(", ").position(|first| first == name).unwrap_or(usize::MAX), name.to_owned())
}

/// Returns whether a value is an object without nested objects or lists.
fn is_flat(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| fields.values().all(|field| !field.is_object() && !field.is_array()))
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => format::plain(text),
        Value::Number(number) if number.is_f64() => format!("{:.4}", number.as_f64().unwrap_or(f64::NAN)),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn table(items: &[Value]) -> Vec<String> {
    let mut names: Vec<&String> = Vec::new();
    for fields in items.iter().filter_map(Value::as_object) {
        names.extend(fields.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name));
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    names.sort_by_key(|name| rank(name));
    let mut rows = vec![names.iter().map(|name| (*name).clone()).collect::<Vec<String>>()];
    for item in items.iter().take(MAX_ROWS) {
        rows.push(names.iter().map(|name| cell(name, &item[name.as_str()])).collect());
    }
    let mut lines = format::columns(&rows);
    if items.len() > MAX_ROWS {
        lines.push(format!("and {} more (--json prints all)", items.len() - MAX_ROWS));
    }
    lines
}

/// Formats a value for a column: ids and long texts are shortened.
fn cell(name: &str, value: &Value) -> String {
    let text = scalar(value);
    let is_id = text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
    if is_id && matches!(name, "id" | "subject" | "instead" | "action") {
        return text[..12].to_owned();
    }
    match text.char_indices().nth(MAX_WIDTH) {
        Some((at, _)) => format!("{}..", &text[..at]),
        None => text,
    }
}
