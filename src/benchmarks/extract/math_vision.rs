//! MATH-Vision's own rule: the answer of a response in normal form, and equality of values rounded
//! to two decimal places.

use super::Options;
use crate::benchmarks::latex_value::{Dialect, value};
use crate::benchmarks::python::number::Number;
use crate::benchmarks::python::round::round;
use crate::benchmarks::python::text::{after_last, strip};
use crate::grading::characters::{is_space, parse_float};

/// Letters that a response may end or begin with.
const LETTERS: [char; 5] = ['A', 'B', 'C', 'D', 'E'];
/// Words before an answer, in lower case; with a capital T they are looked for, too.
const PHRASES: [&str; 4] = ["the final answer is", "the answer is", "the correct answer is", "the answer should be"];
/// Beginning of a box.
const BOX: &str = "oxed{";

/// Returns the answer in normal form: lower case, without units and LaTeX's marks for style.
pub fn extract(response: &str) -> String {
    let mut answer = strip(response).to_owned();
    for letter in LETTERS {
        let ends = [format!(" {letter}."), format!(" ({letter}).")];
        let begins = [format!("{letter}\n"), format!("({letter})\n"), format!("({letter}) {letter}\n")];
        if ends.iter().any(|end| answer.ends_with(end)) || begins.iter().any(|begin| answer.starts_with(begin)) {
            answer = letter.to_string();
        }
    }
    let tail = after_last(&answer, "is ").trim_end_matches('.');
    if parse_float(tail).is_some() {
        answer = tail.to_owned();
    }
    match answer.matches(BOX).count() {
        0 => answer = after_phrases(&answer),
        1 => {}
        _ => answer = format!("\\b{BOX}{}", after_last(&answer, BOX)),
    }
    let mut answer = normal_form(&answer);
    for (open, close) in [('(', ')'), ('{', '}')] {
        for letter in 'a'..='e' {
            answer = answer.replace(&format!("{open}{letter}{close}"), &letter.to_string());
        }
    }
    strip(answer.trim_end_matches('.').trim_start_matches(':')).to_owned()
}

/// Whether an answer equals the gold or, for a multiple-choice item, the text of the gold option.
pub fn is_right(answer: &str, gold: &str, options: &Options) -> bool {
    let option = gold.chars().next().filter(|_| gold.chars().count() == 1).and_then(|letter| options.text(letter));
    is_equal(gold, answer) || is_equal(option.unwrap_or_default(), answer)
}

/// Whether two answers have the same text, the same rounded elements, or values that are the same
/// rounded to two decimal places.
pub fn is_equal(first: &str, second: &str) -> bool {
    let (first, second) = (first.to_lowercase(), second.to_lowercase());
    if is_blank(&first) || is_blank(&second) {
        return false;
    }
    if strip(&first) == strip(&second) {
        return true;
    }
    let (first, second) = (with_rounded_elements(&first), with_rounded_elements(&second));
    if first == second {
        return true;
    }
    let rounded_value = |text: &str| value(text, Dialect::MathVision, None).map(rounded);
    match (rounded_value(&first), rounded_value(&second)) {
        (Some(Number::Int(a)), Some(Number::Int(b))) => a == b,
        (Some(a), Some(b)) => a.to_f64() == b.to_f64(),
        _ => false,
    }
}

fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ')
}

fn rounded(number: Number) -> Number {
    match number {
        Number::Int(n) => Number::Int(n),
        Number::Float(x) => Number::Float(round(x, 2)),
    }
}

/// Cuts a text behind each of the phrases that it holds, and then at its first line end and the
/// first end of a sentence.
fn after_phrases(text: &str) -> String {
    let mut text = text.to_owned();
    for phrase in PHRASES {
        let capital = phrase.replace("the", "The");
        for phrase in [phrase, &capital] {
            let tail = strip(after_last(&text, phrase));
            let tail = if text.contains(phrase) { first_sentence(tail) } else { tail };
            text = tail.to_owned();
        }
    }
    text
}

fn first_sentence(text: &str) -> &str {
    let line = text.split('\n').next().unwrap_or_default();
    line.split(". ").next().unwrap_or_default()
}

/// Returns the content of the box or the whole text without what does not count.
fn normal_form(text: &str) -> String {
    let lower = text.to_lowercase().replace("{}", "");
    let boxed = lower.find(BOX).map(|at| at + BOX.len()).and_then(|from| {
        let to = lower.rfind('}').filter(|&to| to >= from)?;
        Some(&lower[from..to])
    });
    let mut answer = boxed.unwrap_or(&lower);
    // A brace that closes more than was opened ends the answer.
    if let Some(close) = answer.find('}').filter(|&close| answer.find('{').is_none_or(|open| close < open)) {
        answer = &answer[..close];
    }
    let answer = after_last(after_last(answer, "="), "\\approx");
    let replacements = [
        (" ", ""),
        ("\\,", ""),
        ("∞", "\\infty"),
        ("+\\infty", "\\infty"),
        ("\\\\", "\\"),
        ("\n", ""),
        ("\\text", ""),
        ("\\mbox", ""),
        ("bmatrix", "pmatrix"),
        ("\\left", ""),
        ("\\right", ""),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("{m}^3", ""),
        ("m^3", ""),
        ("{units}", ""),
        ("units", ""),
        ("{km}", ""),
        ("km", ""),
    ];
    without_style(&replace_each(answer, &replacements))
}

fn replace_each(text: &str, replacements: &[(&str, &str)]) -> String {
    replacements.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn without_style(text: &str) -> String {
    let replacements = [
        ("\\!", ""),
        ("\\\\", "\\"),
        ("tfrac", "frac"),
        ("dfrac", "frac"),
        ("\\left", ""),
        ("\\right", ""),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("\\$", ""),
        ("$", ""),
    ];
    let text = replace_each(text, &replacements);
    let text = text.split("\\text{ ").next().unwrap_or_default();
    let mut text = replace_each(text, &[("\\%", ""), (" .", " 0."), ("{.", "{0.")]);
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    for sign in ["=", "\\approx"] {
        if text.matches(sign).count() == 1 {
            text = after_last(&text, sign).to_owned();
        }
    }
    if text.contains("sqrt") {
        text = with_braced_roots(&text);
    }
    text = text.replace(' ', "");
    // Upstream repairs fractions only in texts with a root.
    if text.contains("sqrt") {
        text = with_braced_fractions(&text);
    }
    if text == "0.5" {
        return "\\frac{1}{2}".to_owned();
    }
    as_fraction(&text).unwrap_or(text)
}

/// Puts braces around the one character that is the argument of a root.
fn with_braced_roots(text: &str) -> String {
    let mut parts = text.split("\\sqrt");
    let mut braced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        braced.push_str("\\sqrt");
        match part.chars().next().filter(|&c| c != '{') {
            Some(c) => braced.push_str(&format!("{{{c}}}{}", &part[c.len_utf8()..])),
            None => braced.push_str(part),
        }
    }
    braced
}

/// Puts braces around one-character numerators and denominators. A fraction that is cut short
/// leaves the text as it is.
fn with_braced_fractions(text: &str) -> String {
    let mut parts = text.split("\\frac");
    let mut braced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        braced.push_str("\\frac");
        if part.starts_with('{') {
            braced.push_str(part);
            continue;
        }
        let mut chars = part.chars();
        let (Some(above), Some(below)) = (chars.next(), chars.next()) else { return text.to_owned() };
        let below = if below == '{' { "{".to_owned() } else { format!("{{{below}}}") };
        braced.push_str(&format!("{{{above}}}{below}{}", chars.as_str()));
    }
    braced
}

/// Returns `a/b` of two integers as a fraction.
fn as_fraction(text: &str) -> Option<String> {
    let (above, below) = text.split_once('/')?;
    let is_integer = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_canonical = digits == "0" || !digits.starts_with('0');
        !digits.is_empty() && is_canonical && text != "-0" && digits.bytes().all(|digit| digit.is_ascii_digit())
    };
    (is_integer(above) && is_integer(below)).then(|| format!("\\frac{{{above}}}{{{below}}}"))
}

/// Returns a tuple or list of several elements with their values rounded; the text as it is if it
/// is none, or an element has no value.
fn with_rounded_elements(text: &str) -> String {
    rounded_elements(text).unwrap_or_else(|| text.to_owned())
}

fn rounded_elements(text: &str) -> Option<String> {
    let inner = |open: char, close: char| text.strip_prefix(open)?.strip_suffix(close);
    let (open, inner, close) =
        inner('(', ')').map(|inner| ('(', inner, ')')).or_else(|| inner('[', ']').map(|inner| ('[', inner, ']')))?;
    let elements: Vec<&str> = inner.split(',').collect();
    if elements.len() < 2 {
        return None;
    }
    let texts: Option<Vec<String>> = elements.into_iter().map(rounded_element).collect();
    Some(format!("{open}{}{close}", texts?.join(",")))
}

fn rounded_element(element: &str) -> Option<String> {
    if element.contains("infty") || element == "a" || element == "-a" {
        return Some(element.to_owned());
    }
    Some(match rounded(value(element, Dialect::MathVision, None)?) {
        Number::Int(n) => n.to_string(),
        Number::Float(x) => format!("{x:?}"),
    })
}

/// Returns a gold answer without what keeps upstream's scorer from finding any spelling of it
/// right: dollar signs, a box, a form feed in place of `\f`, degrees, blanks around.
pub fn clean_gold(gold: &str) -> String {
    let gold = gold.replace('\x0c', "\\f");
    let gold = gold.trim_matches(|c| is_space(c) || c == '$');
    let gold = crate::grading::last_boxed(gold).unwrap_or(gold);
    gold.replace("^{\\circ}", "").replace("^\\circ", "").trim_matches(is_space).to_owned()
}
