//! Arguments and expansions of macros and environments, read once from `macros.tsv`.

use std::collections::HashMap;
use std::sync::OnceLock;

/// Table generated from pylatexenc by `tests/oracles/latex_tables.py`.
const TABLE: &str = include_str!("macros.tsv");

/// Expansion of a macro.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum Expansion {
    /// Nothing.
    #[default]
    Nothing,
    /// Its arguments, concatenated.
    Arguments,
    /// Fixed text.
    Text(&'static str),
    /// Python format: `%s` for each argument in turn, or `%(2)s` for the second.
    Format(&'static str),
    /// Its argument in a mathematical alphabet.
    Style(&'static str),
    /// Its argument with an accent over each character.
    Accent(char),
    /// Not supported (sections, figures, dates; answers never contain them): the conversion fails.
    Unsupported,
}

/// Expansion of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum EnvironmentBody {
    /// Its content, unchanged.
    #[default]
    Plain,
    /// `[ a b; c d ]`.
    Matrix,
    /// Its content as displayed mathematics.
    Equation,
    /// Python format with one `%s` for the content.
    Format(&'static str),
    /// Not supported: the conversion fails.
    Unsupported,
}

/// A macro or an environment: its arguments (`*` star, `[` optional, `{` mandatory) and expansion.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spec<T> {
    pub(super) arguments: &'static str,
    pub(super) expansion: T,
}

#[derive(Default)]
struct Tables {
    macros: HashMap<&'static str, Spec<Expansion>>,
    environments: HashMap<&'static str, Spec<EnvironmentBody>>,
}

/// Returns a macro's specification; an unknown macro has no arguments and expands to nothing.
pub(super) fn macro_spec(name: &str) -> Spec<Expansion> {
    tables().macros.get(name).copied().unwrap_or_default()
}

/// Returns an environment's specification; an unknown one has no arguments and gives its content.
pub(super) fn environment_spec(name: &str) -> Spec<EnvironmentBody> {
    tables().environments.get(name).copied().unwrap_or_default()
}

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut tables = Tables::default();
        for line in TABLE.lines() {
            let fields: Vec<&'static str> = line.split('\t').collect();
            match fields[..] {
                ["m", name, arguments, kind, value] => {
                    let expansion = parse_expansion(kind, value);
                    tables.macros.insert(unescape(name), Spec { arguments, expansion });
                }
                ["e", name, arguments, kind, value, _] => {
                    tables.environments.insert(name, Spec { arguments, expansion: parse_body(kind, value) });
                }
                _ => {}
            }
        }
        tables
    })
}

fn parse_expansion(kind: &str, value: &'static str) -> Expansion {
    match kind {
        "args" => Expansion::Arguments,
        "text" => Expansion::Text(unescape(value)),
        "format" => Expansion::Format(unescape(value)),
        "style" => Expansion::Style(value),
        "accent" => value.chars().next().map_or(Expansion::Unsupported, Expansion::Accent),
        "drop" => Expansion::Nothing,
        _ => Expansion::Unsupported,
    }
}

fn parse_body(kind: &str, value: &'static str) -> EnvironmentBody {
    match kind {
        "body" => EnvironmentBody::Plain,
        "matrix" => EnvironmentBody::Matrix,
        "equation" => EnvironmentBody::Equation,
        "format" => EnvironmentBody::Format(unescape(value)),
        _ => EnvironmentBody::Unsupported,
    }
}

/// Unescapes `\\`, `\n` and `\t`. The few escaped values of the one table are leaked on purpose.
fn unescape(text: &'static str) -> &'static str {
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
