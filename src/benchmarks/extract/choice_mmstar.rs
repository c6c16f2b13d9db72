//! MMStar's own rule for multiple choice: the gold letter at the beginning.

use crate::benchmarks::python::text::strip;

/// Beginnings of a response, in lower case, after which the letter is looked for.
const BEGINNINGS: [&str; 4] = ["the answer is ", "option ", "(", ""];

/// Whether a response is right: whether the gold letter follows one of the beginnings. So "banana"
/// is right for B, and so is "but it is A".
pub fn is_right(response: &str, gold: &str) -> bool {
    let (response, gold) = (normalize(response), normalize(gold));
    let mut gold = gold.chars();
    let (Some(letter), None) = (gold.next(), gold.next()) else { return false };
    BEGINNINGS.iter().any(|beginning| response.strip_prefix(beginning).is_some_and(|rest| rest.starts_with(letter)))
}

/// Returns the letter from A to D that follows the longest beginning, for reports; the rule itself
/// extracts nothing.
pub fn first_letter(response: &str) -> Option<char> {
    let response = normalize(response);
    let rest = BEGINNINGS.iter().find_map(|beginning| response.strip_prefix(beginning))?;
    rest.chars().next().map(|letter| letter.to_ascii_uppercase()).filter(|letter| ('A'..='D').contains(letter))
}

fn normalize(text: &str) -> String {
    strip(&text.to_lowercase()).replace('\n', " ")
}
