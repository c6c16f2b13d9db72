//! Messages for command lines that clap rejects, from clap's structured error context.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};

use crate::cli::{Cli, CommandError};

/// Returns the error to report for a rejected command line: one sentence; suggestions are the hint.
pub fn usage_error(e: &clap::Error) -> CommandError {
    let suggestions = [
        (ContextKind::SuggestedSubcommand, "command"),
        (ContextKind::SuggestedArg, "argument"),
        (ContextKind::SuggestedValue, "value"),
    ];
    let similar = suggestions.iter().filter_map(|(kind, what)| {
        let names = strings(e, *kind);
        (!names.is_empty()).then(|| format!("a similar {what} exists: {}", list(&names)))
    });
    let suggested = match e.get(ContextKind::Suggested) {
        Some(ContextValue::StyledStrs(texts)) => texts.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    let help = format!("see `{} --help`", command_path());
    let hints: Vec<String> = similar.chain(suggested).chain([help]).collect();
    CommandError::usage(message(e)).with_hint(hints.join("; "))
}

fn message(e: &clap::Error) -> String {
    let argument = list(&strings(e, ContextKind::InvalidArg));
    let value = strings(e, ContextKind::InvalidValue).pop().unwrap_or_default();
    let number = |kind| match e.get(kind) {
        Some(ContextValue::Number(n)) => *n,
        _ => 0,
    };
    match e.kind() {
        ErrorKind::UnknownArgument => format!("unexpected argument {argument}"),
        ErrorKind::InvalidSubcommand => {
            format!("there is no command {}", list(&strings(e, ContextKind::InvalidSubcommand)))
        }
        ErrorKind::MissingRequiredArgument => format!("missing {argument}"),
        ErrorKind::MissingSubcommand => {
            let commands = strings(e, ContextKind::ValidSubcommand).join(", ");
            format!("{} needs a command: {commands}", list(&strings(e, ContextKind::InvalidSubcommand)))
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("{argument} needs a value"),
        ErrorKind::InvalidValue => {
            let possible = strings(e, ContextKind::ValidValue).join(", ");
            format!("invalid value `{value}` for {argument}; possible values: {possible}")
        }
        ErrorKind::ValueValidation => {
            let reason = std::error::Error::source(e).map_or(String::new(), |source| format!(": {source}"));
            format!("invalid value `{value}` for {argument}{reason}")
        }
        ErrorKind::TooManyValues => format!("unexpected value `{value}` for {argument}"),
        ErrorKind::TooFewValues => {
            let (least, actual) = (number(ContextKind::MinValues), number(ContextKind::ActualNumValues));
            format!("{argument} needs at least {least} values, not {actual}")
        }
        ErrorKind::WrongNumberOfValues => {
            let (expected, actual) = (number(ContextKind::ExpectedNumValues), number(ContextKind::ActualNumValues));
            format!("{argument} needs {expected} values, not {actual}")
        }
        ErrorKind::ArgumentConflict => match strings(e, ContextKind::PriorArg) {
            prior if prior.is_empty() => format!("{argument} cannot be used here"),
            prior if list(&prior) == argument => format!("{argument} cannot be used more than once"),
            prior => format!("{argument} cannot be used with {}", list(&prior)),
        },
        kind => kind.as_str().unwrap_or("the command line is not valid").to_owned(),
    }
}

/// Returns the texts of a part of the error's context; none where clap gives no such part.
fn strings(e: &clap::Error, kind: ContextKind) -> Vec<String> {
    match e.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Returns the commands that this process was started with, such as `visplay model export`.
fn command_path() -> String {
    let root = Cli::command();
    let (mut command, mut path) = (&root, root.get_name().to_owned());
    for argument in std::env::args_os().skip(1) {
        let subcommand: Option<&Command> = command.find_subcommand(&argument);
        if let Some(subcommand) = subcommand {
            command = subcommand;
            path = format!("{path} {}", subcommand.get_name());
        }
    }
    path
}
