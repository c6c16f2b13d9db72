//! VLMEvalKit's rule for questions that are answered with yes or no.

use crate::benchmarks::python::text::split;
use crate::grading::characters::decimal_digit;

/// Marks that are deleted or become spaces.
const MARKS: [char; 21] =
    [';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!'];
/// Number of dots that are deleted: upstream passes a flag where a count belongs.
const DOTS: usize = 32;

/// Returns yes (`true`) or no, if exactly one of them is a word of the response.
pub fn extract(response: &str) -> Option<bool> {
    let text = without_marks(&response.to_lowercase());
    let has = |word: &str| split(&text).any(|other| other == word);
    match (has("yes"), has("no")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// Deletes marks that touch a space anywhere in the text, all marks if there is a comma between
/// digits, and the first dots that touch no digit; other marks become spaces.
fn without_marks(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let is_digit = |c: Option<&char>| c.is_some_and(|&c| decimal_digit(c).is_some());
    let has_number = chars.windows(3).any(|w| w[1] == ',' && is_digit(w.first()) && is_digit(w.last()));
    let touches_space = |mark: char| {
        chars.windows(2).any(|w| matches!(w, [a, b] if (*a == mark && *b == ' ') || (*a == ' ' && *b == mark)))
    };
    let mut spaced: Vec<char> = chars.clone();
    for mark in MARKS {
        if has_number || touches_space(mark) {
            spaced.retain(|&c| c != mark);
        } else {
            spaced.iter_mut().filter(|c| **c == mark).for_each(|c| *c = ' ');
        }
    }
    let mut dots = 0;
    let is_kept = |at: usize| {
        let touches_digit = is_digit(at.checked_sub(1).and_then(|at| spaced.get(at))) || is_digit(spaced.get(at + 1));
        spaced[at] != '.' || touches_digit
    };
    (0..spaced.len())
        .filter(|&at| {
            is_kept(at) || {
                dots += 1;
                dots > DOTS
            }
        })
        .map(|at| spaced[at])
        .collect()
}
