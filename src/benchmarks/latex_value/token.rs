//! Tokens of LaTeX expressions.

use super::Dialect;

/// A token of an expression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'a> {
    /// A number without sign.
    Number(&'a str),
    /// A letter.
    Letter(char),
    /// The name of a LaTeX command.
    Command(&'a str),
    /// An operator or a bracket; an escaped brace is `<` or `>`.
    Mark(char),
}

/// Commands without a meaning for the value.
const SILENT: [&str; 6] = ["left", "right", "quad", "qquad", "displaystyle", "limits"];

/// Splits an expression; `None` if it has a character that cannot be part of one.
pub(super) fn tokens(text: &str, dialect: Dialect) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let (token, length) = match c {
            ' ' | '\t' | '\n' | '\r' | '$' => (None, 1),
            '~' if dialect == Dialect::MathVision => (None, 1),
            // A dot without digits ends an expression, whatever follows.
            '.' if dialect == Dialect::MathVision && !after.starts_with(|c: char| c.is_ascii_digit()) => break,
            '0'..='9' | '.' => {
                let length = number_length(rest, dialect)?;
                (Some(Token::Number(&rest[..length])), length)
            }
            'a'..='z' | 'A'..='Z' => (Some(Token::Letter(c)), 1),
            '\\' => {
                let name = &after[..after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len())];
                let command = match (name, after.chars().next()) {
                    ("", Some(',' | ';' | ':' | '!' | ' ')) => None,
                    ("", Some('{')) => Some(Token::Mark('<')),
                    ("", Some('}')) => Some(Token::Mark('>')),
                    ("", Some('%')) => Some(Token::Mark('%')),
                    ("", Some('\\')) if dialect == Dialect::MathVision => break,
                    ("", Some('$')) if dialect == Dialect::VlmEvalKit => None,
                    ("", _) => return None,
                    ("cdot" | "times", _) => Some(Token::Mark('*')),
                    ("div", _) => Some(Token::Mark('/')),
                    ("dfrac" | "tfrac", _) => Some(Token::Command("frac")),
                    (name, _) if SILENT.contains(&name) => None,
                    (name, _) => Some(Token::Command(name)),
                };
                (command, 1 + name.len().max(1))
            }
            '%' if dialect == Dialect::MathVision => return None,
            ':' => (Some(Token::Mark('/')), 1),
            '+' | '-' | '*' | '/' | '^' | '!' | '(' | ')' | '[' | ']' | '{' | '}' | '=' | '%' | '_' => {
                (Some(Token::Mark(c)), 1)
            }
            '−' if dialect == Dialect::VlmEvalKit => (Some(Token::Mark('-')), c.len_utf8()),
            '×' | '·' if dialect == Dialect::VlmEvalKit => (Some(Token::Mark('*')), c.len_utf8()),
            '÷' if dialect == Dialect::VlmEvalKit => (Some(Token::Mark('/')), c.len_utf8()),
            _ => return None,
        };
        tokens.extend(token);
        rest = &rest[length..];
    }
    Some(tokens)
}

/// Returns the length of a number with thousands commas and a fraction.
fn number_length(text: &str, dialect: Dialect) -> Option<usize> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = digits(0);
    while end > 0 && bytes.get(end) == Some(&b',') && digits(end + 1) >= 3 {
        end += 4;
        // A fourth digit begins the next number.
        if bytes.get(end).is_some_and(u8::is_ascii_digit) {
            return Some(end);
        }
    }
    if bytes.get(end) == Some(&b'.') {
        match digits(end + 1) {
            0 if end > 0 && dialect == Dialect::MathVision => {}
            0 => return None,
            n => end += 1 + n,
        }
    }
    Some(end)
}
