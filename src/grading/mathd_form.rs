//! First normal form of an answer: LaTeX normalized as by the MATH data set's own checker.
//!
//! Source: `math_normalize.py` of mathruler (from Hendrycks' MATH release). Where the reference
//! fails on an unexpected form, it falls back to the stripped answer, and so does this code, step
//! by step.

use super::characters::strip;

/// Returns the first normal form. Two answers with the same form are equal.
pub(super) fn mathd_form(answer: &str) -> String {
    let answer = strip(answer);
    let answer = unwrap_text(answer).map_or(answer, strip);
    tidy(answer).unwrap_or_else(|| answer.to_owned())
}

/// Returns the content of an answer that is a single `\text{..}` (`^\\text\{(.+?)\}$`; `.` does not
/// match a newline).
pub(super) fn unwrap_text(answer: &str) -> Option<&str> {
    let inner = answer.strip_prefix(r"\text{")?;
    let inner = inner.strip_suffix("}\n").or_else(|| inner.strip_suffix('}'))?;
    (!inner.is_empty() && !inner.contains('\n')).then_some(inner)
}

/// Applies the steps in order; `None` where the reference raises an exception.
fn tidy(answer: &str) -> Option<String> {
    let mut text: String = answer.chars().filter(|&c| c != '\n').collect();
    text = replace_each(text, &[(r"\!", ""), (r"\\", r"\"), ("tfrac", "frac"), ("dfrac", "frac")]);
    if text.contains('\\') {
        let dropped = [r"\left", r"\right", r"^{\circ}", r"^\circ", r"\$"];
        text = without_right_unit(replace_each(text, &dropped.map(|piece| (piece, ""))))?;
        text = replace(text, r"\%", "");
    }
    text = replace_each(text, &[("%", ""), (" .", " 0."), ("{.", "{0.")]);
    if text.is_empty() {
        return Some(text);
    }
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    text = without_short_left_side(text);
    text = brace_square_roots(text)?;
    text = replace(text, " ", "");
    text = brace_fractions(text)?;
    if text == "0.5" {
        text = r"\frac{1}{2}".to_owned();
    }
    Some(slash_to_fraction(text))
}

/// `str.replace` without allocation if there is nothing to replace.
pub(super) fn replace(text: String, from: &str, to: &str) -> String {
    if text.contains(from) { text.replace(from, to) } else { text }
}

/// Replaces the first text of each pair by the second, one pair after the other.
pub(super) fn replace_each(text: String, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text, |text, (from, to)| replace(text, from, to))
}

/// Cuts the text at the first `\text{ `; the reference fails if there are several.
fn without_right_unit(text: String) -> Option<String> {
    let mut parts = text.split(r"\text{ ");
    let head = parts.next().unwrap_or("");
    match (parts.next(), parts.next()) {
        (None, _) => Some(text),
        (Some(_), None) => Some(head.to_owned()),
        (Some(_), Some(_)) => None,
    }
}

/// Removes `k =` in front of a value if the left side of the only `=` has at most two characters.
fn without_short_left_side(text: String) -> String {
    match text.split_once('=') {
        Some((left, right)) if !right.contains('=') && left.chars().count() <= 2 => right.to_owned(),
        _ => text,
    }
}

/// Rewrites `\sqrt3` to `\sqrt{3}`; `None` for a `\sqrt` at the end.
fn brace_square_roots(text: String) -> Option<String> {
    if !text.contains(r"\sqrt") {
        return Some(text);
    }
    let mut parts = text.split(r"\sqrt");
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let first = part.chars().next()?;
        out.push_str(r"\sqrt");
        if first == '{' {
            out.push_str(part);
        } else {
            out.extend(['{', first, '}']);
            out.push_str(&part[first.len_utf8()..]);
        }
    }
    Some(out)
}

/// Rewrites `\frac12` to `\frac{1}{2}` and `\frac1{72}` to `\frac{1}{72}`; `None` for a `\frac` at
/// the end.
fn brace_fractions(text: String) -> Option<String> {
    if !text.contains(r"\frac") {
        return Some(text);
    }
    let mut parts = text.split(r"\frac");
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        out.push_str(r"\frac");
        let mut chars = part.chars();
        let first = chars.next()?;
        if first == '{' {
            out.push_str(part);
            continue;
        }
        let Some(second) = chars.next() else { return Some(text) };
        out.extend(['{', first, '}']);
        if second == '{' {
            out.push(second);
        } else {
            out.extend(['{', second, '}']);
        }
        out.push_str(chars.as_str());
    }
    Some(out)
}

/// Rewrites `a/b` of two plain integers to `\frac{a}{b}`.
fn slash_to_fraction(text: String) -> String {
    match text.split_once('/') {
        Some((a, b)) if is_plain_integer(a) && is_plain_integer(b) => format!("\\frac{{{a}}}{{{b}}}"),
        _ => text,
    }
}

/// Whether Python's `int` prints the text back unchanged.
fn is_plain_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    // Python refuses to parse an integer with more digits.
    let plain = (1..=4300).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    plain && (text == "0" || !digits.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::mathd_form;

    #[test]
    fn latex_is_normalized() {
        let cases = [
            (r"\text{B}", "B"),
            (r" \dfrac12 ", r"\frac{1}{2}"),
            (r"\sqrt3", r"\sqrt{3}"),
            ("1/2", r"\frac{1}{2}"),
            ("-0/2", "-0/2"),
            (".5", r"\frac{1}{2}"),
            ("x = 5", "5"),
            ("abc=5", "abc=5"),
            (r"5 \text{ cm}", "5"),
            (r"5 \text{ cm} \text{ or so}", r"5 \text{ cm} \text{ or so}"),
            (r"90^\circ", "90"),
            (r"\left(1,2\right)", "(1,2)"),
            (r"50\%", "50"),
            (r"\frac", r"\frac"),
            ("", ""),
        ];
        for (given, form) in cases {
            assert_eq!(mathd_form(given), form, "{given}");
        }
    }
}
