//! Second normal form of an answer: units and words removed, LaTeX turned into text, lower case.
//!
//! Source: `_normalize` of mathruler's `grader.py` (from OpenAI's PRM800K). Tuples, integers and
//! symbolic equality are decided on this form.

use super::characters::{decimal_digit, integer_text, is_near_integer, parse_float, strip};
use super::latex;
use super::mathd_form::{replace, replace_each, unwrap_text};

/// Units, removed wherever they occur, one after the other, with a plural and a power.
const UNITS: &str = "degree cm centimeter meter mile second minute hour day week month year foot feet inch yard";

/// Returns the second normal form. Two answers with the same form are equal.
pub(super) fn sympy_form(answer: &str) -> String {
    let mut text = unwrap_text(answer).unwrap_or(answer).to_owned();
    text = replace_each(text, &[(r"\%", "%"), (r"\$", "$"), ("$", ""), ("%", ""), (" or ", " , "), (" and ", " , ")]);
    text = replace_each(text, &[("million", "*10^6"), ("billion", "*10^9"), ("trillion", "*10^12")]);
    for unit in UNITS.split(' ') {
        text = without_unit(text, unit);
    }
    text = without_circ(&text);
    if text.len() > 1 && text.starts_with('{') && text.ends_with('}') {
        text = text[1..text.len() - 1].to_owned();
    }
    text = replace_with_trailing_spaces(&text, r",\!", "");
    if let Some(value) = parse_float(&text).filter(|&value| is_near_integer(value)) {
        text = integer_text(value.round_ties_even());
    }
    if text.contains('\\') {
        text = latex_to_expression(&text).unwrap_or(text);
    }
    text = replace_with_trailing_spaces(&text, "-", "-");
    text = with_mixed_numbers(text);
    text.retain(|c| !matches!(c, ' ' | '{' | '}'));
    if text.bytes().any(|b| !b.is_ascii()) {
        text = text.to_lowercase();
    } else {
        text.make_ascii_lowercase();
    }
    if integer_value(&text).is_some() {
        // The reference tests the rounded value, then truncates: the integer 2.99999999 becomes 2.
        let plain = replace(text.clone(), ",", "");
        text = parse_float(&plain).map_or(text, |value| integer_text(value.trunc()));
    }
    text
}

/// Returns the value of a text that counts as an integer: with thousands separators, and within
/// 1e-7 of a whole number.
pub(super) fn integer_value(text: &str) -> Option<f64> {
    let value = if text.contains(',') { parse_float(&without_thousands(text)) } else { parse_float(text) };
    value.filter(|&value| is_near_integer(value))
}

/// Removes the comma of `1,234` (a digit, a comma, exactly three digits), repeatedly.
///
/// Each pass takes non-overlapping matches from the left, and a match consumes the character after
/// it, as the reference's regular expression does. So `1,234,567,890` becomes `1234,567890` in
/// both.
pub(super) fn without_thousands(text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    loop {
        let mut out = Vec::with_capacity(chars.len());
        let mut at = 0;
        while at < chars.len() {
            if is_thousand(&chars[at..]) {
                let end = (at + 6).min(chars.len());
                out.push(chars[at]);
                out.extend_from_slice(&chars[at + 2..end]);
                at = end;
            } else {
                out.push(chars[at]);
                at += 1;
            }
        }
        if out.len() == chars.len() {
            return out.into_iter().collect();
        }
        chars = out;
    }
}

fn is_thousand(rest: &[char]) -> bool {
    let digit = |at: usize| rest.get(at).is_some_and(|&c| decimal_digit(c).is_some());
    digit(0) && rest.get(1) == Some(&',') && digit(2) && digit(3) && digit(4) && !digit(5)
}

/// Rewrites a text at every `pattern`: `step` gets the output so far and the texts before and after
/// the pattern, extends the output and returns the text that remains.
fn rewrite_at<'a>(text: &'a str, pattern: &str, step: impl Fn(&mut String, &'a str, &'a str) -> &'a str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(pattern) {
        rest = step(&mut out, before, after);
    }
    out + rest
}

/// Removes every `unit(es)?(s)? *(\^[0-9]+)?`.
fn without_unit(text: String, unit: &str) -> String {
    if !text.contains(unit) {
        return text;
    }
    rewrite_at(&text, unit, |out, before, after| {
        out.push_str(before);
        let rest = after.strip_prefix("es").unwrap_or(after);
        let rest = rest.strip_prefix('s').unwrap_or(rest).trim_start_matches(' ');
        let power = rest.strip_prefix('^').map(|power| (power, power.trim_start_matches(|c: char| c.is_ascii_digit())));
        power.filter(|(power, after)| after.len() < power.len()).map_or(rest, |(_, after)| after)
    })
}

/// Removes every `\^ *\\circ`.
fn without_circ(text: &str) -> String {
    const CIRC: &str = r"\circ";
    rewrite_at(text, CIRC, |out, before, after| {
        match before.trim_end_matches(' ').strip_suffix('^') {
            Some(before) => out.push_str(before),
            None => out.extend([before, CIRC]),
        }
        after
    })
}

/// Replaces every `from` and the spaces after it.
fn replace_with_trailing_spaces(text: &str, from: &str, to: &str) -> String {
    rewrite_at(text, from, |out, before, after| {
        out.extend([before, to]);
        after.trim_start_matches(' ')
    })
}

/// Rewrites `7 3/4` to `7+3/4`: spaces between digits become a plus, in non-overlapping matches.
fn with_mixed_numbers(text: String) -> String {
    if !text.contains(' ') {
        return text;
    }
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let (mut copied, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at].is_ascii_digit() {
            let next = at + 1 + bytes[at + 1..].iter().take_while(|&&b| b == b' ').count();
            if next > at + 1 && bytes.get(next).is_some_and(u8::is_ascii_digit) {
                out.push_str(&text[copied..=at]);
                out.push('+');
                copied = next;
                at = next + 1;
                continue;
            }
        }
        at += 1;
    }
    out + &text[copied..]
}

/// Converts LaTeX to an expression in plain characters; `None` where the reference's converter
/// raises an exception, which is ignored.
fn latex_to_expression(text: &str) -> Option<String> {
    let fractions = [(r"\tfrac", r"\frac"), (r"\dfrac", r"\frac"), (r"\frac", r" \frac")];
    let text = latex::to_text(&replace_each(text.to_owned(), &fractions))?;
    let symbols = [("√", "sqrt"), ("π", "pi"), ("∞", "inf"), ("∪", "U"), ("·", "*"), ("×", "*")];
    Some(strip(&replace_each(text, &symbols)).to_owned())
}

#[cfg(test)]
mod tests {
    use super::{sympy_form, without_thousands};

    #[test]
    fn answers_become_expressions() {
        let cases = [
            (r"7\frac{3}{4}", "7+3/4"),
            ("7 3/4", "7+3/4"),
            ("$1,234$", "1234"),
            ("2.0", "2"),
            ("2.99999999", "3"),
            ("1,002.99999999", "1002"),
            (r"\text{Yes}", "yes"),
            ("5 square feet", "5square"),
            ("12 inches^2", "12"),
            (r"90^\circ", "90"),
            (r"3\sqrt{2}", "3sqrt(2)"),
            (r"\frac{\pi}{2}", "pi/2"),
            ("5 million", "5*10^6"),
            ("1 or 2", "1,2"),
            ("- 3", "-3"),
            ("1e400", "1e400"),
            ("1 2 3", "1+23"),
            ("{", ""),
            (r"\sqrt", r"\sqrt"),
        ];
        for (given, form) in cases {
            assert_eq!(sympy_form(given), form, "{given}");
        }
    }

    #[test]
    fn thousands_separators_are_removed_as_in_the_reference() {
        let cases =
            [("1,234", "1234"), ("1,234,567", "1234567"), ("1,234,567,890", "1234,567890"), ("1,2345", "1,2345")];
        for (given, form) in cases {
            assert_eq!(without_thousands(given), form);
        }
    }
}
