//! MMMU's own rule for multiple choice.

use super::Options;
use crate::benchmarks::python::text::{split, strip_marks};

/// Marks that are stripped from both ends, one kind after another.
const MARKS: [char; 7] = [',', '.', '!', '?', ';', ':', '\''];
/// Texts of options are searched for only in responses of more words than this.
const FEW_WORDS: usize = 5;

/// Returns the letter that the rule finds; `None` where MMMU's code draws one at random.
pub fn extract(response: &str, options: &Options) -> Option<char> {
    let padded = format!(" {} ", strip_marks(response, &MARKS));
    let last = |text: &str| padded.rfind(text);
    let in_brackets = options.letters().filter_map(|letter| Some((letter, last(&format!("({letter})"))?)));
    let between_spaces = options.letters().filter_map(|letter| Some((letter, last(&format!(" {letter} "))?)));
    latest(in_brackets).or_else(|| latest(between_spaces)).or_else(|| {
        if split(&padded).count() <= FEW_WORDS {
            return None;
        }
        let lower = padded.to_lowercase();
        latest(options.iter().filter_map(|(letter, text)| Some((letter, lower.rfind(&text.to_lowercase())?))))
    })
}

/// Returns the letter with the greatest position, the first one of equals.
fn latest(found: impl Iterator<Item = (char, usize)>) -> Option<char> {
    found.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(letter, _)| letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_letter_counts_and_a_line_end_is_no_space() {
        let options = Options::from_texts(["red", "green"]);
        assert_eq!(extract("B is wrong. A is right.", &options), Some('A'));
        assert_eq!(extract("A or B", &options), Some('B'));
        assert_eq!(extract("so\nB", &options), None);
        assert_eq!(extract("it looks more green than blue to me", &options), Some('B'));
        assert_eq!(extract("green", &options), None);
    }
}
