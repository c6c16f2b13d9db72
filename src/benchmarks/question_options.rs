//! Options that a file writes into its question or into one text.

use super::extract::Options;

/// Reads options from lines such as `A:2` or `A. left lane`, one below the other in the order of
/// letters, behind the line `Choices:` or `Options:` if there is one. Empty if there are fewer than
/// two. MathVerse and RealWorldQA write them so.
///
/// ```
/// use visplay::benchmarks::question_options::lettered_lines;
/// let options = lettered_lines("How long is BC?\nChoices:\nA:2\nB:√{3}");
/// assert_eq!(options.text('B'), Some("√{3}"));
/// ```
pub fn lettered_lines(question: &str) -> Options {
    let start = ["Choices:", "Options:"].iter().filter_map(|header| Some(question.rfind(header)? + header.len())).max();
    let mut texts: Vec<String> = Vec::new();
    for line in question[start.unwrap_or(0)..].lines() {
        let line = line.trim_start_matches([' ', '\t']);
        match next_letter(texts.len()).and_then(|letter| after_letter(line, letter)) {
            Some(text) => texts.push(text.trim_end().to_owned()),
            // An option may have several lines; what follows a blank one belongs to the question.
            None if line.is_empty() && !texts.is_empty() => break,
            None => {}
        }
    }
    of(texts)
}

/// Reads options from one line such as `Options: A: a kettle, B: two spoons`, as MMStar writes
/// them. An option's text may hold commas.
pub fn listed(question: &str) -> Options {
    let Some(start) = question.rfind("Options:") else { return Options::default() };
    let mut rest = question[start + "Options:".len()..].trim();
    let mut texts = Vec::new();
    while let Some(text) = next_letter(texts.len()).and_then(|letter| after_letter(rest, letter)) {
        let next = next_letter(texts.len() + 1).and_then(|letter| text.find(&format!(", {letter}: ")));
        let (text, behind) = next.map_or((text, ""), |at| (&text[..at], &text[at + 2..]));
        texts.push(text.trim().trim_end_matches('.').to_owned());
        rest = behind;
    }
    of(texts)
}

/// Reads options from one text such as `(a) (10%, 20%) (b) 5 cm`, as VisNumBench writes them. Only
/// the next letter in brackets before a blank begins an option.
pub fn bracketed(text: &str) -> Options {
    let mut texts = Vec::new();
    let mut rest = text.trim();
    for letter in 'a'..='e' {
        let Some(after) = rest.strip_prefix(&format!("({letter})")) else { break };
        let next = char::from_u32(u32::from(letter) + 1).map_or_else(String::new, |next| format!(" ({next}) "));
        let end = after.find(&next).unwrap_or(after.len());
        texts.push(after[..end].trim().to_owned());
        rest = after[end..].trim_start();
    }
    of(texts)
}

/// Returns the letter of VisNumBench's gold answer, such as `(b) 5 cm`.
pub fn bracketed_letter(gold: &str) -> Option<char> {
    let (letter, _) = gold.trim().strip_prefix('(')?.split_once(')')?;
    let mut chars = letter.chars();
    let (letter, None) = (chars.next()?.to_ascii_uppercase(), chars.next()) else { return None };
    letter.is_ascii_uppercase().then_some(letter)
}

fn of(texts: Vec<String>) -> Options {
    if texts.len() < 2 { Options::default() } else { Options::from_texts(texts) }
}

fn next_letter(count: usize) -> Option<char> {
    ('A'..='Z').nth(count)
}

/// Returns what follows a letter and its mark, with or without brackets.
fn after_letter(text: &str, letter: char) -> Option<&str> {
    let bracketed = text.strip_prefix('(').and_then(|text| text.strip_prefix(letter)?.strip_prefix(')'));
    let marked = text.strip_prefix(letter).and_then(|text| text.strip_prefix([':', '.', ')']));
    bracketed.or(marked).map(str::trim_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(options: &Options) -> Vec<&str> {
        options.texts().collect()
    }

    #[test]
    fn options_are_read_from_lines() {
        let question = "As shown, find A: the angle.\nChoices:\nA:40°\nB:(1, 2)\nC:\nD:x\n";
        assert_eq!(texts(&lettered_lines(question)), ["40°", "(1, 2)", "", "x"]);
        let question = "Which lane?\n\nA. left lane\nB. right lane\nPlease answer with the letter.";
        assert_eq!(texts(&lettered_lines(question)), ["left lane", "right lane"]);
        assert!(lettered_lines("How many cars?\nA. only one").is_empty());
        assert!(lettered_lines("").is_empty());
    }

    #[test]
    fn options_are_read_from_lists() {
        let question = "Which?\nOptions: A: a kettle, red, B: two spoons, C: D: E";
        assert_eq!(texts(&listed(question)), ["a kettle, red", "two spoons", "D: E"]);
        assert!(listed("Which? A: a, B: b").is_empty());
    }

    #[test]
    fn ranges_do_not_end_an_option() {
        let text = "(a) (10%, 20%) (b) (b) is it (c) 5 cm (d) (80, 90) degrees";
        assert_eq!(texts(&bracketed(text)), ["(10%, 20%)", "(b) is it", "5 cm", "(80, 90) degrees"]);
        assert_eq!(texts(&bracketed("(a) 1(b) (b) 2")), ["1(b)", "2"]);
        assert_eq!(
            (bracketed_letter("(b) (20, 30)"), bracketed_letter("b"), bracketed_letter("(10) x")),
            (Some('B'), None, None)
        );
    }
}
