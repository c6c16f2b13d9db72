//! The parser of the Questioner's outputs, and the check of their form. Pure functions of the text.

use crate::reward::{OutputForm, ParsingMode, parse_output};
use crate::tables::QuestionType;

/// A question parsed from a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedQuestion {
    /// The declared type; `None` where the form has none or the type is unknown.
    pub kind: Option<QuestionType>,
    /// The question.
    pub question: String,
    /// The answer that the Questioner claims; `None` where the form has none.
    pub claimed: Option<String>,
}

/// Parses a sample, or returns a stable word for the reason why it is not a question. With `check`
/// the question must also suit its type.
///
/// # Errors
/// `form`: the text does not have the form; `options`: a multiple-choice question without distinct
/// options; `question_mark`: another question without `?`.
pub fn parse_question(
    text: &str,
    form: OutputForm,
    parsing: ParsingMode,
    check: bool,
) -> Result<ParsedQuestion, &'static str> {
    let parsed = parse_output(text, form, parsing).ok_or("form")?;
    let kind = QuestionType::ALL.iter().copied().find(|kind| parsed.kind.as_deref() == Some(kind.as_str()));
    let (suits_type, problem) = match kind {
        Some(QuestionType::MultipleChoice) => (has_distinct_options(&parsed.question), "options"),
        _ => (parsed.question.contains('?'), "question_mark"),
    };
    if check && !suits_type {
        return Err(problem);
    }
    Ok(ParsedQuestion { kind, question: parsed.question, claimed: parsed.answer })
}

/// Whether a question offers at least two options `A .. B ..`, in order, with different texts.
///
/// An option begins with its letter as a separate word, written `A`, `A.`, `A)`, `(A)` or `A:`.
pub fn has_distinct_options(question: &str) -> bool {
    let mut options: Vec<Vec<&str>> = Vec::new();
    for word in question.split_whitespace() {
        let bare = word.trim_start_matches('(').trim_end_matches(['.', ')', ':']);
        let next = char::from(b'A' + options.len().min(25) as u8);
        if bare.len() == 1 && bare.starts_with(next) {
            options.push(Vec::new());
        } else if let Some(option) = options.last_mut() {
            option.push(word.trim_end_matches([',', ';', '.', '?']));
        }
    }
    let texts: std::collections::BTreeSet<&Vec<&str>> = options.iter().collect();
    options.len() >= 2 && texts.len() == options.len() && options.iter().all(|option| !option.is_empty())
}

/// Returns a question in lower case with single spaces, the form in which duplicates are equal.
pub fn normalise(question: &str) -> String {
    question.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_letters_in_order_with_different_texts() {
        for good in [
            "Which colour is most common? A red B green C blue D yellow",
            "Are there more? (A) yes (B) no",
            "Pick: A. one B. two",
            "Which? A: a big one B: a small one",
        ] {
            assert!(has_distinct_options(good), "{good}");
        }
        for bad in
            ["Which colour is most common?", "Which? A red", "Which? A red B red", "Which? A B", "Which? B x A y", ""]
        {
            assert!(!has_distinct_options(bad), "{bad}");
        }
    }

    #[test]
    fn only_the_check_compares_a_question_with_its_type() {
        let read = |text: &str, check| parse_question(text, OutputForm::TypeQuestionAnswer, ParsingMode::Strict, check);
        let output = |kind: &str, question: &str| {
            format!("<type>{kind}</type><question>{question}</question><answer>1</answer>")
        };
        assert_eq!(read(&output("multiple choice", "Which one?"), true), Err("options"));
        assert!(read(&output("multiple choice", "Which one?"), false).is_ok());
        assert_eq!(read(&output("numerical", "Count them"), true), Err("question_mark"));
        let good = read(&output("numerical", "How many?"), true).unwrap();
        assert_eq!((good.kind, good.claimed.as_deref()), (Some(QuestionType::Numerical), Some("1")));
        assert_eq!(read("How many?", true), Err("form"));
    }

    #[test]
    fn duplicates_differ_only_in_spaces_and_case() {
        assert_eq!(normalise(" How  many\nRed ones? "), "how many red ones?");
    }
}
