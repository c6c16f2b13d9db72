//! Our own reading of a judge's reply: verdicts, letters and grades.

use crate::benchmarks::python::text::strip;

/// Characters around a verdict that do not count.
const QUOTES: [char; 8] = ['"', '\'', '*', '`', '“', '”', '‘', '’'];
/// Grades are multiples of one over this.
const STEPS: f64 = 10.0;

/// Returns the reply without thinking, blanks, quotes, asterisks and one final dot; `None` if the
/// thinking never ends or nothing is left.
fn core(reply: &str) -> Option<String> {
    let after = reply.rfind("</think>").map_or(reply, |at| &reply[at + "</think>".len()..]);
    if after.contains("<think>") {
        return None;
    }
    let trim = |text| strip(text).trim_matches(QUOTES);
    let mut text = strip(trim(after));
    if let Some(shorter) = text.strip_suffix('.') {
        text = strip(trim(shorter));
    }
    (!text.is_empty()).then(|| text.to_owned())
}

/// Reads a verdict of right or wrong. `None` if it is anything but one of eight words.
pub fn read_verdict(reply: &str) -> Option<bool> {
    match core(reply)?.to_lowercase().as_str() {
        "1" | "correct" | "yes" | "true" => Some(true),
        "0" | "incorrect" | "no" | "false" => Some(false),
        _ => None,
    }
}

/// Reads a letter from A to Z, in either case, bare or in brackets.
pub fn read_letter(reply: &str) -> Option<char> {
    let text = core(reply)?;
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(&text);
    let mut chars = inner.chars();
    let (letter, None) = (chars.next()?.to_ascii_uppercase(), chars.next()) else { return None };
    letter.is_ascii_uppercase().then_some(letter)
}

/// A grade between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grade {
    /// The grade, a multiple of 0.1.
    pub value: f64,
    /// Whether the judge gave another value, which was rounded.
    pub is_rounded: bool,
}

/// Reads a grade as a finite decimal from 0 to 1.
pub fn read_grade(reply: &str) -> Option<Grade> {
    let text = core(reply)?;
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let grade: f64 = text.parse().ok().filter(|_| is_decimal)?;
    if !(0.0..=1.0).contains(&grade) {
        return None;
    }
    let value = (grade * STEPS).round_ties_even() / STEPS;
    Some(Grade { value, is_rounded: (value - grade).abs() > 1e-9 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_through_thinking_and_quotes() {
        for reply in ["1", "Correct.", " **yes** ", "\"True\"", "<think>no</think>\ncorrect", "`1`"] {
            assert_eq!(read_verdict(reply), Some(true), "{reply}");
        }
        for reply in ["0", "Incorrect.", "no", "FALSE", "<think>1</think>0"] {
            assert_eq!(read_verdict(reply), Some(false), "{reply}");
        }
        for reply in ["", "  ", "not correct", "1 because", "10", "<think>1", "correct/incorrect", "1.."] {
            assert_eq!(read_verdict(reply), None, "{reply}");
        }
    }

    #[test]
    fn letters_and_grades_are_read() {
        assert_eq!(
            (read_letter("(b)."), read_letter("**C**"), read_letter("BC"), read_letter("1")),
            (Some('B'), Some('C'), None, None)
        );
        assert_eq!(read_grade("0.7"), Some(Grade { value: 0.7, is_rounded: false }));
        assert_eq!(read_grade("0.25"), Some(Grade { value: 0.2, is_rounded: true }));
        assert_eq!(read_grade("1."), Some(Grade { value: 1.0, is_rounded: false }));
        for reply in ["nan", "inf", "1.1", "-0.1", "0,5", "0.7 because", "1e0", ""] {
            assert_eq!(read_grade(reply), None, "{reply}");
        }
    }
}
