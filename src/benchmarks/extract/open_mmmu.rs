//! MMMU's own rule for open questions: texts and numbers of a response, and whether one of them is
//! the gold.

use crate::benchmarks::python::round::round;
use crate::benchmarks::python::text::{after_last, strip};
use crate::grading::characters::{decimal_digit, is_word, parse_float};

/// Words before an answer. What follows the last occurrence of one of them may be the answer.
const INDICATORS: [&str; 8] = ["could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result "];
/// Texts that are no answer.
const TRIVIAL: [&str; 7] = [":", ",", ".", "!", "?", ";", "'"];

/// A normalized candidate for an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Candidate {
    /// A number, rounded to two decimal places.
    Number(f64),
    /// A lower-case text. A single character has a space before or after it.
    Text(String),
}

/// Returns the candidates of a response, without duplicates.
pub fn extract(response: &str) -> Vec<Candidate> {
    let texts = key_parts(response);
    let numbers: Vec<String> = texts.iter().flat_map(|text| numbers(text)).collect();
    let mut candidates: Vec<Candidate> = Vec::new();
    for candidate in texts.iter().chain(&numbers).flat_map(|text| normalize(text)) {
        if !candidates.contains(&candidate) {
            candidates.push(candidate);
        }
    }
    candidates
}

/// Whether one of the candidates is one of the gold answers: the same number, or a text that holds
/// the gold text.
pub fn is_right<'a>(candidates: &[Candidate], golds: impl IntoIterator<Item = &'a str>) -> bool {
    let golds: Vec<Candidate> = golds.into_iter().flat_map(normalize).collect();
    candidates.iter().any(|candidate| {
        golds.iter().any(|gold| match (candidate, gold) {
            (Candidate::Text(text), Candidate::Text(gold)) => text.contains(gold.as_str()),
            (Candidate::Number(x), Candidate::Number(gold)) => x == gold,
            _ => false,
        })
    })
}

/// Returns the parts of a response that may be the answer; the whole response if there are none.
fn key_parts(response: &str) -> Vec<String> {
    let response = strip(response).trim_matches('.').to_lowercase();
    let lines: Vec<&str> = response.split('\n').collect();
    let mut parts = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let equals = (number + 1 == lines.len()).then_some("=");
        let indicators = INDICATORS.into_iter().chain(equals).filter(|&indicator| line.contains(indicator));
        let mut shortest = "";
        for tail in indicators.map(|indicator| strip(after_last(line, indicator))) {
            if shortest.is_empty() || tail.chars().count() < shortest.chars().count() {
                shortest = tail;
            }
        }
        if !shortest.is_empty() && !TRIVIAL.contains(&shortest) {
            parts.push(shortest.to_owned());
        }
    }
    if parts.is_empty() { vec![response] } else { parts }
}

fn normalize(text: &str) -> Vec<Candidate> {
    let text = strip(text);
    if let Some(x) = parse_float(&text.replace(',', "")) {
        return vec![Candidate::Number(round(x, 2))];
    }
    let lower = text.to_lowercase();
    if lower.chars().count() == 1 {
        return vec![Candidate::Text(format!(" {lower}")), Candidate::Text(format!("{lower} "))];
    }
    vec![Candidate::Text(lower)]
}

/// Returns the numbers of a text: those with thousands commas, those in scientific notation, and
/// plain ones.
fn numbers(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    [with_commas, scientific, plain].into_iter().flat_map(|form| find_all(&chars, form)).collect()
}

/// Returns the parts that a form matches, from left to right without overlaps. A minus sign before
/// a number belongs to it.
fn find_all(chars: &[char], form: fn(&[char], usize) -> Option<usize>) -> Vec<String> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        let behind_minus = if chars[at] == '-' { form(chars, at + 1) } else { None };
        match behind_minus.or_else(|| form(chars, at)) {
            Some(end) => {
                found.push(chars[at..end].iter().collect());
                at = end;
            }
            None => at += 1,
        }
    }
    found
}

fn digits(chars: &[char], from: usize) -> usize {
    chars.iter().skip(from).take_while(|&&c| decimal_digit(c).is_some()).count()
}

/// Whether a word begins or ends before a position.
fn is_boundary(chars: &[char], at: usize) -> bool {
    let word = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(|&c| is_word(c));
    word(at.checked_sub(1)) != word(Some(at))
}

/// Matches one to three digits and groups of a comma and three digits, as a whole word.
fn with_commas(chars: &[char], start: usize) -> Option<usize> {
    let first = digits(chars, start);
    if !(1..=3).contains(&first) || !is_boundary(chars, start) {
        return None;
    }
    let (mut end, mut last) = (start + first, None);
    while chars.get(end) == Some(&',') && digits(chars, end + 1) >= 3 {
        end += 4;
        if is_boundary(chars, end) {
            last = Some(end);
        }
    }
    last
}

/// Matches a mantissa and an exponent.
fn scientific(chars: &[char], start: usize) -> Option<usize> {
    let whole = Some(digits(chars, start)).filter(|&n| n > 0)? + start;
    let fraction = if chars.get(whole) == Some(&'.') { digits(chars, whole + 1) } else { 0 };
    let mantissa = if fraction > 0 { whole + 1 + fraction } else { whole };
    exponent(chars, mantissa)
}

/// Matches an exponent, and returns its end.
fn exponent(chars: &[char], at: usize) -> Option<usize> {
    matches!(chars.get(at), Some('e' | 'E')).then_some(())?;
    let sign = usize::from(matches!(chars.get(at + 1), Some('+' | '-')));
    let length = digits(chars, at + 1 + sign);
    (length > 0).then_some(at + 1 + sign + length)
}

/// Matches a number without commas and exponent that no comma or digit follows.
fn plain(chars: &[char], start: usize) -> Option<usize> {
    let ends = |end: usize| {
        let next = chars.get(end);
        exponent(chars, end).is_none() && next != Some(&',') && next.is_none_or(|&c| decimal_digit(c).is_none())
    };
    let whole = start + digits(chars, start);
    if chars.get(whole) == Some(&'.') {
        let fraction = digits(chars, whole + 1);
        if fraction > 0 && ends(whole + 1 + fraction) {
            return Some(whole + 1 + fraction);
        }
    }
    (whole > start && is_boundary(chars, whole) && ends(whole)).then_some(whole)
}
