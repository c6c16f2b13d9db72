//! Characters and numbers as Python sees them: letters, digits, white space, `float()`.
//!
//! The reference is written in Python, and its verdicts hang on `str.isalpha`, `\d`, `str.strip` and `float()`.

use std::collections::HashMap;
use std::sync::OnceLock;

/// The table behind this module (letters above ASCII, zeros of decimal digits, composed accents), written from Python.
const TABLE: &str = include_str!("characters.tsv");

#[derive(Default)]
struct CharacterClasses {
    /// Ranges of letters above ASCII, both ends included, in order.
    letters: Vec<(u32, u32)>,
    /// The code point of the zero of each script that has decimal digits, in order.
    zeros: Vec<u32>,
    /// Base character and combining mark to the one character that both make (Unicode NFC).
    accents: HashMap<(char, char), char>,
}

fn classes() -> &'static CharacterClasses {
    static CLASSES: OnceLock<CharacterClasses> = OnceLock::new();
    CLASSES.get_or_init(|| {
        let mut classes = CharacterClasses::default();
        for line in TABLE.lines() {
            let mut fields = line.split('\t');
            let (kind, first) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
            match kind {
                "letters" => classes.letters = first.split(' ').filter_map(parse_range).collect(),
                "zeros" => classes.zeros = first.split(' ').filter_map(parse_point).collect(),
                "accent" => {
                    let mark = parse_point(first).and_then(char::from_u32);
                    let (bases, made) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
                    if let Some(mark) = mark {
                        let pairs = bases.chars().zip(made.chars());
                        classes.accents.extend(pairs.map(|(base, one)| ((base, mark), one)));
                    }
                }
                _ => {}
            }
        }
        classes
    })
}

fn parse_point(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

fn parse_range(text: &str) -> Option<(u32, u32)> {
    match text.split_once('-') {
        Some((from, to)) => Some((parse_point(from)?, parse_point(to)?)),
        None => parse_point(text).map(|point| (point, point)),
    }
}

/// `str.isalpha` of one character: the categories L* and nothing else.
pub(super) fn is_letter(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphabetic();
    }
    let point = u32::from(c);
    let letters = &classes().letters;
    let after = letters.partition_point(|&(from, _)| from <= point);
    after > 0 && letters[after - 1].1 >= point
}

/// The value of a decimal digit of any script (category Nd), as `float()`, `int()` and `\d` take it.
pub(super) fn decimal_digit(c: char) -> Option<u32> {
    if c.is_ascii() {
        return c.to_digit(10);
    }
    let point = u32::from(c);
    let zeros = &classes().zeros;
    let after = zeros.partition_point(|&zero| zero <= point);
    (after > 0 && point - zeros[after - 1] < 10).then(|| point - zeros[after - 1])
}

/// `\w`: letters, anything numeric, and the underscore.
pub(super) fn is_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    is_letter(c) || c.is_numeric()
}

/// `str.isspace`: Unicode white space and the four ASCII separators that Python adds.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `str.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// The one character that a base and a combining mark make under NFC, if there is one.
pub(super) fn compose(base: char, mark: char) -> Option<char> {
    classes().accents.get(&(base, mark)).copied()
}

/// `float(text)`: white space around, an underscore between digits and digits of any script are allowed.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let text = strip(text);
    // The longest spelling of a finite answer is far below this, and Rust's parser need not see a megabyte of digits.
    if text.is_empty() || text.len() > 4096 {
        return None;
    }
    let mut plain = String::with_capacity(text.len());
    let mut after_digit = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '_' {
            if !after_digit || chars.peek().is_none_or(|&next| decimal_digit(next).is_none()) {
                return None;
            }
            after_digit = false;
        } else if let Some(digit) = decimal_digit(c) {
            plain.push(char::from_digit(digit, 10)?);
            after_digit = true;
        } else {
            plain.push(c);
            after_digit = false;
        }
    }
    plain.parse().ok()
}

/// Whether a float is within 1e-7 of an integer, as the reference asks before it calls an answer an integer.
pub(super) fn is_near_integer(x: f64) -> bool {
    x.is_finite() && (x - x.round_ties_even()).abs() <= 1e-7
}

/// A float with an integral value, printed as Python prints that `int`.
pub(super) fn integer_text(x: f64) -> String {
    let text = format!("{x:.0}");
    if text == "-0" { "0".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_python() {
        assert!(is_letter('é') && is_letter('北') && is_letter('𝐁'));
        assert!(!is_letter('Ⓐ') && !is_letter('Ⅷ') && !is_letter('²') && !is_letter('∘'));
        assert_eq!((decimal_digit('３'), decimal_digit('٤'), decimal_digit('²')), (Some(3), Some(4), None));
        assert_eq!((compose('e', '\u{301}'), compose('x', '\u{302}')), (Some('é'), None));
        assert!(is_space('\x1c') && is_space('\u{a0}') && !is_space('\u{200b}'));
    }

    #[test]
    fn floats_follow_python() {
        let cases = [("1_000", Some(1000.0)), (" 2.5e1\n", Some(25.0)), (".5", Some(0.5)), ("5.", Some(5.0))];
        for (text, value) in cases {
            assert_eq!(parse_float(text), value, "{text}");
        }
        for text in ["", "_1", "1_", "1__0", "1_.5", "0x10", "1e", "1,000", "--1", "1 2"] {
            assert_eq!(parse_float(text), None, "{text}");
        }
        assert_eq!(parse_float("Infinity"), Some(f64::INFINITY));
        assert_eq!((integer_text(-0.0), integer_text(1e22)), ("0".to_owned(), "10000000000000000000000".to_owned()));
    }
}
