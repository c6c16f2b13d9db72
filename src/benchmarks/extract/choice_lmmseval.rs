//! lmms-eval's rule for multiple choice (`extract_mcq_answer`): candidates with ranks.

use crate::benchmarks::python::text::{strip, strip_marks};
use crate::grading::characters::is_letter;

/// Marks that are stripped from both ends, one kind after another.
const MARKS: [char; 8] = [',', '.', '!', '?', ';', ':', '\'', '"'];
/// Words after which a letter is the answer, in lower case. Longer ones that only put an article or
/// "correct" before one of these find nothing else, but the first of equal candidates wins, so the
/// order is that of the published list.
const PHRASES: [&str; 27] = [
    "the answer is",
    "answer is",
    "the correct answer is",
    "correct answer is",
    "the best answer is",
    "best answer is",
    "the correct option is",
    "correct option is",
    "the best option is",
    "best option is",
    "the choice is",
    "choice is",
    "the correct choice is",
    "correct choice is",
    "i choose",
    "i select",
    "i pick",
    "my answer is",
    "my choice is",
    "옵션",
    "정답은",
    "답은",
    "답:",
    "答案是",
    "答案为",
    "选",
    "答えは",
];

/// A letter that was found, with the rank of its form and its position.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    letter: char,
    rank: u8,
    position: usize,
}

/// Returns the candidate of the highest rank and, among these, the latest; the first of equals.
pub fn extract(response: &str, letters: &[char]) -> Option<char> {
    if strip(response).is_empty() {
        return None;
    }
    let text: Vec<char> = format!(" {} ", strip_marks(strip(response), &MARKS)).chars().collect();
    let mut candidates = Vec::new();
    for (rank, before, after) in [(6, "(", ")"), (5, "", "."), (4, "", ":"), (3, "", ")"), (2, "", " ")] {
        for &letter in letters {
            let form: Vec<char> = format!("{before}{letter}{after}").chars().collect();
            candidates.extend(last(&text, &form).map(|position| Candidate { letter, rank, position }));
        }
    }
    push_after_phrases(&text, letters, &mut candidates);
    push_at_ends(&text, letters, &mut candidates);
    if candidates.is_empty() {
        let found = letters.iter().filter_map(|&letter| Some((letter, last(&text, &[letter])?)));
        candidates.extend(found.map(|(letter, position)| Candidate { letter, rank: 0, position }));
    }
    let key = |candidate: &Candidate| (candidate.rank, candidate.position);
    let best = candidates.into_iter().reduce(|best, next| if key(&next) > key(&best) { next } else { best });
    best.map(|candidate| candidate.letter)
}

fn push_after_phrases(text: &[char], letters: &[char], candidates: &mut Vec<Candidate>) {
    // Positions in the lower-case text are used in the text, also where lengths differ.
    let lower: Vec<char> = text.iter().collect::<String>().to_lowercase().chars().collect();
    for phrase in PHRASES {
        let phrase: Vec<char> = phrase.chars().collect();
        let Some(at) = first(&lower, &phrase) else { continue };
        let rest = text.get(at + phrase.len()..).unwrap_or_default();
        for &letter in letters {
            let found = rest.iter().position(|&c| c == letter);
            candidates.extend(found.map(|n| Candidate { letter, rank: 7, position: at + phrase.len() + n }));
        }
    }
}

fn push_at_ends(text: &[char], letters: &[char], candidates: &mut Vec<Candidate>) {
    let whole: String = text.iter().collect();
    let stripped: Vec<char> = strip(&whole).chars().collect();
    let (Some(&head), Some(&tail)) = (stripped.first(), stripped.last()) else { return };
    let stands_alone = |neighbour: Option<&char>| neighbour.is_none_or(|&c| !is_letter(c));
    for &letter in letters {
        if head == letter && stands_alone(stripped.get(1)) {
            candidates.push(Candidate { letter, rank: 10, position: 0 });
        }
    }
    for &letter in letters {
        if tail == letter && stands_alone(stripped.len().checked_sub(2).and_then(|at| stripped.get(at))) {
            candidates.push(Candidate { letter, rank: 9, position: text.len() - 1 });
        }
    }
}

fn first(text: &[char], part: &[char]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn last(text: &[char], part: &[char]) -> Option<usize> {
    text.windows(part.len()).rposition(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_decide_before_positions() {
        let letters = ['A', 'B', 'C', 'D'];
        assert_eq!(extract("A, B", &letters), Some('A'));
        assert_eq!(extract("(A) and (B)", &letters), Some('B'));
        assert_eq!(extract("Cannot determine the answer", &letters), Some('C'));
        assert_eq!(extract("选B", &letters), Some('B'));
        assert_eq!(extract("  ", &letters), None);
    }
}
