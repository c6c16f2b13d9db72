//! VLMEvalKit's rule for multiple choice (`can_infer`).

use super::Options;
use crate::benchmarks::python::text::{length, split};
use crate::grading::characters::is_space;

/// Text that VLMEvalKit puts in place of a response that a server failed to give.
pub const FAILED_CALL: &str = "Failed to obtain answer via API";
/// Parts of a response that make it a refusal, as the published rule spells them.
const REFUSALS: [&str; 4] = [
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
];
/// Marks that count as spaces.
const MARKS: [char; 13] = ['.', '(', ')', '[', ']', ',', ':', ';', '!', '*', '#', '{', '}'];
/// Number of words at the end among which the letter must be.
const LAST_WORDS: usize = 4;

/// Version of the rule. Figures that were published before 2026-06-17 have no search for the words
/// "answer is".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnswerIs {
    /// Searches for the words, as the rule does since 2026-06-17.
    #[default]
    Searched,
    /// Does not search.
    Ignored,
}

/// Returns the letter that the rule finds: an option's, or `Z` for a refusal.
pub fn extract(response: &str, options: &Options, answer_is: AnswerIs) -> Option<char> {
    find_letter(response, options, answer_is).or_else(|| find_text(response, options))
}

fn find_letter(response: &str, options: &Options, answer_is: AnswerIs) -> Option<char> {
    if response.contains(FAILED_CALL) {
        return None;
    }
    if is_refusal(response) {
        return Some('Z');
    }
    let spaced = response.replace(MARKS, " ");
    let words: Vec<&str> = split(&spaced).collect();
    let place = |letter: char| words.iter().position(|word| is_letter(word, letter));
    let mut found = options.letters().filter_map(|letter| Some((letter, place(letter)?)));
    match (found.next(), found.next()) {
        (Some((letter, at)), None) if at + LAST_WORDS >= words.len() => return Some(letter),
        (None, _) if place('Z').is_some() => return Some('Z'),
        _ => {}
    }
    match answer_is {
        AnswerIs::Searched => letter_after_answer_is(response).filter(|&letter| options.has(letter)),
        AnswerIs::Ignored => None,
    }
}

/// Whether a response holds one of the rule's refusals.
pub fn is_refusal(response: &str) -> bool {
    REFUSALS.iter().any(|refusal| response.contains(refusal))
}

fn is_letter(word: &str, letter: char) -> bool {
    word.strip_prefix(letter) == Some("")
}

/// Finds the first "answer is", spaces, asterisks, and a letter from A to D in either case. Letters
/// may be the ones that Python's case folding takes for those of the words.
fn letter_after_answer_is(response: &str) -> Option<char> {
    let chars: Vec<char> = response.chars().collect();
    (0..chars.len()).find_map(|start| {
        let rest = skip_word(&chars[start..], "answer")?;
        let rest = skip_word(skip_spaces(rest)?, "is")?;
        let rest = skip_spaces(rest)?;
        let asterisks = rest.iter().take_while(|&&c| c == '*').count();
        let letter = rest.get(asterisks)?.to_ascii_uppercase();
        ('A'..='D').contains(&letter).then_some(letter)
    })
}

fn skip_word<'a>(chars: &'a [char], word: &str) -> Option<&'a [char]> {
    let length = word.len();
    let matches = chars.len() >= length && chars.iter().zip(word.chars()).all(|(&c, letter)| folds_to(c, letter));
    matches.then(|| &chars[length..])
}

/// Whether Python's `re.IGNORECASE` takes a character for a lower-case ASCII letter.
fn folds_to(c: char, letter: char) -> bool {
    c.to_ascii_lowercase() == letter || matches!((c, letter), ('ſ', 's') | ('İ' | 'ı', 'i'))
}

/// Skips white space, of which there must be some.
fn skip_spaces(chars: &[char]) -> Option<&[char]> {
    let spaces = chars.iter().take_while(|&&c| is_space(c)).count();
    (spaces > 0).then(|| &chars[spaces..])
}

/// Returns the only option whose text the response holds, unless the response is more than twice as
/// long as all options together.
fn find_text(response: &str, options: &Options) -> Option<char> {
    let response = response.to_lowercase();
    if length(&response) > 2 * options.texts().map(length).sum::<usize>() {
        return None;
    }
    let mut found = options.iter().filter(|(_, text)| response.contains(&text.to_lowercase()));
    match (found.next(), found.next()) {
        (Some((letter, _)), None) => Some(letter),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_for_answer_is_can_be_switched_off() {
        let options = Options::from_texts(["a copper kettle", "two wooden spoons", "a blue ladder"]);
        let response = "The answer is clearly visible on the stove";
        assert_eq!(extract(response, &options, AnswerIs::Searched), Some('C'));
        assert_eq!(extract(response, &options, AnswerIs::Ignored), None);
    }
}
