//! lmms-eval's rule for RealWorldQA: letters, or the whole response.

use super::choice_lmmseval;
use crate::benchmarks::python::text::strip;

/// Letters of RealWorldQA's options.
const LETTERS: [char; 4] = ['A', 'B', 'C', 'D'];

/// Returns the gold letter of an item with options.
fn gold_letter(gold: &str) -> Option<char> {
    let gold = strip(gold).to_uppercase();
    LETTERS.into_iter().find(|&letter| gold == letter.to_string())
}

/// Returns the letter that is extracted; `None` where the gold is no letter.
pub fn extract(response: &str, gold: &str) -> Option<char> {
    gold_letter(gold).and_then(|_| choice_lmmseval::extract(response, &LETTERS))
}

/// Whether a response is right: the gold's letter, or the gold itself in lower case without blanks
/// around and dots at the end.
pub fn is_right(response: &str, gold: &str) -> bool {
    match gold_letter(gold) {
        Some(letter) => extract(response, gold) == Some(letter),
        None => {
            let response = response.to_lowercase();
            strip(&response).trim_end_matches('.') == strip(gold).to_lowercase()
        }
    }
}
