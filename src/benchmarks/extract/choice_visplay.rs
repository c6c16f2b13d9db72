//! Our own rule for multiple choice: strict inside a box or tag, and MMMU's rule without its random
//! letters outside.

use super::Options;
use super::choice_mmmu;
use super::pre_step::AnswerPart;
use crate::benchmarks::python::text::{split, strip};
use crate::grading::compare;

/// Outcome of the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The letter of an option.
    Letter(char),
    /// Several letters, none of which is preferred.
    Ambiguous,
    /// Nothing.
    Nothing,
}

/// Returns the option that the answer's part of a response names.
pub fn extract(part: AnswerPart<'_>, options: &Options) -> Choice {
    if part.is_marked {
        return marked(part.text, options);
    }
    choice_mmmu::extract(part.text, options).map_or(Choice::Nothing, Choice::Letter)
}

/// Reads a text that is nothing but an answer: a letter, a letter in brackets, a letter with its
/// text, or the text of an option.
fn marked(text: &str, options: &Options) -> Choice {
    let text = strip(text);
    if let Some(letter) = lettered(text, options) {
        return Choice::Letter(letter);
    }
    let folded = text.to_lowercase();
    let mut same = options.iter().filter(|(_, option)| strip(option).to_lowercase() == folded);
    let mut equal = options.iter().filter(|(_, option)| compare(text, option).equal);
    let only = match (same.next(), same.next()) {
        (None, _) => match (equal.next(), equal.next()) {
            (Some((letter, _)), None) => Some(letter),
            _ => None,
        },
        (Some((letter, _)), None) => Some(letter),
        _ => None,
    };
    match only {
        Some(letter) => Choice::Letter(letter),
        None if named_letters(text, options) > 1 => Choice::Ambiguous,
        None => Choice::Nothing,
    }
}

/// Reads a letter in either case, alone, in brackets, or with a mark and what follows it.
fn lettered(text: &str, options: &Options) -> Option<char> {
    let bare = text.trim_end_matches('.');
    let in_brackets = [('(', ')'), ('[', ']')].iter().find_map(|&(open, close)| {
        let (inner, rest) = text.strip_prefix(open)?.split_once(close)?;
        // What follows the brackets must not name another letter.
        (named_letters(rest, options) == 0).then_some(inner)
    });
    let with_mark = [".", ")", ":"].iter().find_map(|mark| {
        let (letter, rest) = text.split_once(mark)?;
        (named_letters(rest, options) == 0).then_some(letter)
    });
    [Some(bare), in_brackets, with_mark].into_iter().flatten().find_map(|text| letter(text, options))
}

/// Returns the letter of an option if a text is nothing else.
fn letter(text: &str, options: &Options) -> Option<char> {
    let mut chars = strip(text).chars();
    let (letter, None) = (chars.next()?.to_ascii_uppercase(), chars.next()) else { return None };
    options.has(letter).then_some(letter)
}

/// Returns the number of different option letters that are words of a text. A lower-case letter and
/// the article "A" before a word are none.
fn named_letters(text: &str, options: &Options) -> usize {
    let spaced = text.replace(|c: char| !c.is_alphanumeric(), " ");
    let words: Vec<&str> = split(&spaced).collect();
    let is_named = |letter: char| {
        words.iter().enumerate().any(|(at, word)| {
            let next_is_word = words.get(at + 1).is_some_and(|next| next.starts_with(char::is_lowercase));
            word.chars().eq([letter]) && !(letter == 'A' && next_is_word && !matches!(words[at + 1], "and" | "or"))
        })
    };
    options.letters().filter(|&letter| is_named(letter)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extracted(text: &str, is_marked: bool) -> Choice {
        let options = Options::from_texts(["a copper kettle", "two wooden spoons", r"\frac{1}{2}", "None of these"]);
        extract(AnswerPart { text, is_marked }, &options)
    }

    #[test]
    fn a_box_holds_a_letter_or_an_option() {
        for text in [
            "B",
            "b",
            "B.",
            "B)",
            "(B)",
            "[b]",
            "(b) two wooden spoons",
            "B. two wooden spoons",
            "B: spoons",
            "Two wooden spoons",
        ] {
            assert_eq!(extracted(text, true), Choice::Letter('B'), "{text}");
        }
        assert_eq!(extracted("0.5", true), Choice::Letter('C'));
        assert_eq!(extracted("A. A copper kettle", true), Choice::Letter('A'));
        for text in ["A, B", "A or B", "(A) and (B)", "A and B", "A: or C"] {
            assert_eq!(extracted(text, true), Choice::Ambiguous, "{text}");
        }
        for text in ["", "E", "spoons", "7", "the answer"] {
            assert_eq!(extracted(text, true), Choice::Nothing, "{text}");
        }
    }

    #[test]
    fn outside_a_box_the_rule_is_mmmus_without_its_random_letters() {
        assert_eq!(extracted("The answer is (B).", false), Choice::Letter('B'));
        assert_eq!(extracted("**B**", false), Choice::Nothing);
    }
}
