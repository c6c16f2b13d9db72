//! What each macro and environment takes and becomes: `macros.tsv`, read once.

use std::collections::HashMap;
use std::sync::OnceLock;

/// The table, written from pylatexenc by `tests/oracles/latex_tables.py`.
const TABLE: &str = include_str!("macros.tsv");

/// What a macro becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Expansion {
    /// Nothing.
    Nothing,
    /// Its arguments, one after the other.
    Arguments,
    /// A fixed text.
    Text(&'static str),
    /// A Python format: `%s` for each argument in turn, or `%(2)s` for the second.
    Format(&'static str),
    /// Its argument in a mathematical alphabet.
    Style(&'static str),
    /// Its argument with an accent over each character.
    Accent(char),
    /// What answers never hold (sections, pictures, dates): the conversion is given up.
    Unsupported,
}

/// What an environment becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum EnvironmentBody {
    /// Its content.
    Plain,
    /// `[ a b; c d ]`.
    Matrix,
    /// Its content as displayed mathematics.
    Equation,
    /// A Python format with one `%s`, the content.
    Format(&'static str),
    /// The conversion is given up.
    Unsupported,
}

/// A macro: the arguments that it reads (`*` star, `[` optional, `{` mandatory) and what it becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct MacroSpec {
    pub(super) arguments: &'static str,
    pub(super) becomes: Expansion,
}

/// An environment: its arguments, whether it is mathematics, and what it becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct EnvironmentSpec {
    pub(super) arguments: &'static str,
    pub(super) body: EnvironmentBody,
}

#[derive(Default)]
struct Tables {
    macros: HashMap<&'static str, MacroSpec>,
    environments: HashMap<&'static str, EnvironmentSpec>,
}

/// What is known of a macro; an unknown one reads nothing and becomes nothing.
pub(super) fn macro_of(name: &str) -> MacroSpec {
    tables().macros.get(name).copied().unwrap_or(MacroSpec { arguments: "", becomes: Expansion::Nothing })
}

/// What is known of an environment; an unknown one reads nothing and becomes its content.
pub(super) fn environment_of(name: &str) -> EnvironmentSpec {
    tables().environments.get(name).copied().unwrap_or(EnvironmentSpec { arguments: "", body: EnvironmentBody::Plain })
}

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut tables = Tables::default();
        for line in TABLE.lines() {
            let fields: Vec<&'static str> = line.split('\t').collect();
            match fields[..] {
                ["m", name, arguments, kind, value] => {
                    tables.macros.insert(unescaped(name), MacroSpec { arguments, becomes: becomes(kind, value) });
                }
                ["e", name, arguments, kind, value, _] => {
                    tables.environments.insert(name, EnvironmentSpec { arguments, body: body(kind, value) });
                }
                _ => {}
            }
        }
        tables
    })
}

fn becomes(kind: &str, value: &'static str) -> Expansion {
    match kind {
        "args" => Expansion::Arguments,
        "text" => Expansion::Text(unescaped(value)),
        "format" => Expansion::Format(unescaped(value)),
        "style" => Expansion::Style(value),
        "accent" => value.chars().next().map_or(Expansion::Unsupported, Expansion::Accent),
        "drop" => Expansion::Nothing,
        _ => Expansion::Unsupported,
    }
}

fn body(kind: &str, value: &'static str) -> EnvironmentBody {
    match kind {
        "body" => EnvironmentBody::Plain,
        "matrix" => EnvironmentBody::Matrix,
        "equation" => EnvironmentBody::Equation,
        "format" => EnvironmentBody::Format(unescaped(value)),
        _ => EnvironmentBody::Unsupported,
    }
}

/// Undoes `\\`, `\n` and `\t`. The few escaped values of the one table live as long as the program does.
fn unescaped(text: &'static str) -> &'static str {
    if !text.contains('\\') {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    Box::leak(out.into_boxed_str())
}
