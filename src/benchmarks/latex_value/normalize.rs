//! Normal form of a text before `latex2sympy2_extended` reads it.

use crate::grading::characters::{is_space, is_word, strip};

/// Commands that put a box around a text.
const BOXES: [&str; 2] = ["\\boxed", "\\fbox"];
/// Words for the per cent sign, the longest first.
const PERCENT: [&str; 3] = ["percentage", "percent", "pct"];

/// Returns the content of the boxes of a text, joined by commas, or all of a text without boxes,
/// without marks for style.
pub(super) fn normalized(text: &str) -> String {
    let boxes = boxes(text);
    let text = if boxes.is_empty() { text.to_owned() } else { boxes.join(",") };
    let text = without_negative_spaces(&text);
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        let is_quote = matches!(c, '"' | '\'') && !plain.ends_with('\\');
        match c {
            '$' => {
                if plain.ends_with('\\') {
                    plain.pop();
                }
            }
            _ if is_quote => {}
            '\n' | '\t' => plain.push(' '),
            // The second of two backslashes before a command is dropped.
            _ if c.is_ascii_alphabetic() && plain.ends_with("\\\\") => {
                plain.pop();
                plain.push(c);
            }
            _ => plain.push(c),
        }
    }
    with_percent_signs(&without_comma_braces(&plain))
}

/// Returns the contents of the boxes, in order, without repetitions. A box that is never closed
/// counts only if it is the last one.
fn boxes(text: &str) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    let mut end = text.len();
    let last = |end: usize| BOXES.iter().filter_map(|&name| Some((text[..end].rfind(name)?, name))).max();
    while let Some((start, command)) = last(end) {
        let rest = text[start + command.len()..end].trim_start_matches(is_space);
        if rest.is_empty() {
            break;
        }
        match rest.strip_prefix('{').map(|inner| &inner[..closing_brace(inner).unwrap_or(inner.len())]) {
            Some(inner) if inner.len() + 1 < rest.len() => {
                let content = strip(inner);
                if found.last() != Some(&content) {
                    found.push(content);
                }
            }
            _ => {
                if found.is_empty() {
                    found.push(rest);
                }
                break;
            }
        }
        end = start;
    }
    found.reverse();
    found
}

/// Returns the position of the brace that closes a text.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    text.bytes().position(|byte| {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return true,
            b'}' => depth -= 1,
            _ => {}
        }
        false
    })
}

/// Removes `\!` with the white space behind it, so that `1\!5` is 15, and `\text{ }`.
fn without_negative_spaces(text: &str) -> String {
    let mut parts = text.split("\\!");
    let mut joined = parts.next().unwrap_or_default().to_owned();
    joined.extend(parts.map(|part| part.trim_start_matches(is_space)));
    remove_each(&joined, "\\text", |rest| {
        let inner = rest.trim_start_matches(is_space).strip_prefix('{')?;
        inner.trim_start_matches(is_space).strip_prefix('}')
    })
}

/// Removes occurrences of a beginning after which `rest` finds the end.
fn remove_each<'a>(text: &'a str, beginning: &str, rest: impl Fn(&'a str) -> Option<&'a str>) -> String {
    let (mut kept, mut left) = (String::new(), text);
    while let Some(at) = left.find(beginning) {
        let after = &left[at + beginning.len()..];
        let end = match rest(after) {
            Some(end) => {
                kept.push_str(&left[..at]);
                end
            }
            None => {
                kept.push_str(&left[..at + beginning.len()]);
                after
            }
        };
        left = end;
    }
    kept + left
}

/// Turns `{,}` into a comma, so that `1{,}000` is a number.
fn without_comma_braces(text: &str) -> String {
    let mut parts = text.split('{');
    let mut joined = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let inner = part.trim_start_matches(is_space).strip_prefix(',').map(|rest| rest.trim_start_matches(is_space));
        match inner.and_then(|rest| rest.strip_prefix('}')) {
            Some(rest) => {
                joined.truncate(joined.trim_end_matches(is_space).len());
                joined.push(',');
                joined.push_str(rest);
            }
            None => {
                joined.push('{');
                joined.push_str(part);
            }
        }
    }
    joined
}

/// Turns words for the per cent sign into it.
fn with_percent_signs(text: &str) -> String {
    PERCENT.iter().fold(text.to_owned(), |text, word| {
        let mut signed = String::new();
        let mut left = text.as_str();
        while let Some(at) = left.find(word) {
            let (before, after) = (&left[..at], &left[at + word.len()..]);
            let touches_word = |c: Option<char>| c.is_some_and(is_word);
            signed.push_str(before);
            if touches_word(signed.chars().next_back()) || touches_word(after.chars().next()) {
                signed.push_str(word);
            } else {
                signed.truncate(signed.trim_end_matches(is_space).len());
                signed.push_str("\\%");
            }
            left = after;
        }
        signed + left
    })
}
