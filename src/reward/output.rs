//! Parser of the Questioner's output, strict or lenient.

use serde::{Deserialize, Serialize};

/// Form that an output must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputForm {
    /// `<question>..</question>`.
    Question,
    /// `<type>..</type><question>..</question><answer>..</answer>`.
    TypeQuestionAnswer,
    /// `<type>..</type><question>..</question>` (ours, for the nano model: no claimed answer).
    TypeQuestion,
}

/// How strictly an output must keep to its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParsingMode {
    /// Only white space may be around and between the blocks, and the type is one of [`TYPES`].
    Strict,
    /// The first place where the blocks follow each other counts, whatever else the output
    /// contains, and any type is accepted (as in the released code's reward).
    Lenient,
}

/// Types of a question.
pub const TYPES: [&str; 3] = ["multiple choice", "numerical", "regression"];

/// A question parsed from an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedQuestion {
    /// Type, if the form has one.
    pub kind: Option<String>,
    /// Question.
    pub question: String,
    /// Answer claimed by the Questioner, if the form has one. Nothing is graded against it.
    pub answer: Option<String>,
}

/// Parses an output; `None` if it does not have the form. A blank block counts as missing.
pub fn parse_output(output: &str, form: OutputForm, parsing: ParsingMode) -> Option<ParsedQuestion> {
    let (kind, question, answer) = match (form, parsing) {
        (OutputForm::Question, ParsingMode::Strict) => (None, only_block(output.trim(), "question")?, None),
        (OutputForm::Question, ParsingMode::Lenient) => (None, find_block(output, "question")?.0, None),
        (_, ParsingMode::Lenient) => return lenient_blocks(&tidy_marks(output), form),
        (_, ParsingMode::Strict) => strict_blocks(output.trim(), form)?,
    };
    non_blank(kind, question, answer)
}

fn non_blank(kind: Option<&str>, question: &str, answer: Option<&str>) -> Option<ParsedQuestion> {
    let [kind, answer] = [kind, answer].map(|block| block.map(str::trim));
    let blank = |block: Option<&str>| block.is_some_and(str::is_empty);
    if blank(kind) || blank(answer) || question.trim().is_empty() {
        return None;
    }
    Some(ParsedQuestion {
        kind: kind.map(str::to_owned),
        question: question.trim().to_owned(),
        answer: answer.map(str::to_owned),
    })
}

/// Returns the content of the first block of a name, and the text after it.
fn find_block<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>"))
}

/// Returns the content of a text that consists of one block and nothing else.
fn only_block<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let content = text.strip_prefix(&open)?.strip_suffix(&close)?;
    (!content.contains(&open) && !content.contains(&close)).then_some(content)
}

/// Matches `<type>(..)</type>\s*<question>.+?</question>\s*<answer>.+?</answer>` from end to end;
/// for a form without an answer `<type>(..)</type>\s*<question>.+</question>` with one question.
fn strict_blocks(text: &str, form: OutputForm) -> Option<(Option<&str>, &str, Option<&str>)> {
    let (kind, rest) = text.strip_prefix("<type>")?.split_once("</type>")?;
    if !TYPES.contains(&kind) {
        return None;
    }
    if form == OutputForm::TypeQuestion {
        return Some((Some(kind), only_block(rest.trim_start(), "question")?, None));
    }
    let rest = rest.trim_start().strip_prefix("<question>")?;
    const CLOSE: &str = "</question>";
    // The first closing tag followed by an answer ends the question.
    let ends = rest.match_indices(CLOSE).map(|(at, _)| at);
    let mut splits = ends.map(|at| (&rest[..at], rest[at + CLOSE.len()..].trim_start().strip_prefix("<answer>")));
    let (question, rest) = splits.find_map(|(question, answer)| Some((question, answer?)))?;
    Some((Some(kind), question, Some(rest.strip_suffix("</answer>")?)))
}

/// Finds the first `<type>(.*?)</type>.*?<question>(.*?)</question>.*?<answer>(.*?)</answer>`,
/// without the last block for a form without an answer.
fn lenient_blocks(text: &str, form: OutputForm) -> Option<ParsedQuestion> {
    let (kind, rest) = find_block(text, "type")?;
    let (question, rest) = find_block(rest, "question")?;
    let answer = if form == OutputForm::TypeQuestion { None } else { Some(find_block(rest, "answer")?.0) };
    non_blank(Some(kind), question, answer)
}

/// Removes white space around angle brackets and slashes: `re.sub(r"\s*(<|>|/)\s*", r"\1", text)`.
///
/// The released code does this to every output before parsing it, because some models insert spaces
/// there.
pub(super) fn tidy_marks(text: &str) -> String {
    let is_mark = |c: char| matches!(c, '<' | '>' | '/');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_mark) {
        let before = &rest[..at];
        // White space after the previous mark is already gone, so only white space before this one
        // is trimmed.
        out.push_str(before.trim_end());
        out.push_str(&rest[at..=at]);
        rest = rest[at + 1..].trim_start();
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::{OutputForm, ParsedQuestion, ParsingMode, parse_output, tidy_marks};

    /// Returns the question under strict and under lenient parsing.
    fn questions(text: &str, form: OutputForm) -> [Option<String>; 2] {
        [ParsingMode::Strict, ParsingMode::Lenient].map(|mode| parse_output(text, form, mode).map(|p| p.question))
    }

    #[test]
    fn the_paper_form_is_parsed() {
        let both = |text: &str| questions(text, OutputForm::Question);
        assert_eq!(both(" <question> Why? </question>\n"), [Some("Why?".into()), Some("Why?".into())]);
        assert_eq!(both("Sure: <question>Why?</question>"), [None, Some("Why?".into())]);
        assert_eq!(both("<question>a</question><question>b</question>"), [None, Some("a".into())]);
        for text in [
            "",
            "<question></question>",
            "<question> </question>",
            "<question>Why?",
            "Why?</question>",
            "<Question>a</Question>",
        ] {
            assert_eq!(both(text), [None, None], "{text}");
        }
    }

    #[test]
    fn the_released_form_is_parsed() {
        let both = |text: &str| questions(text, OutputForm::TypeQuestionAnswer);
        let good = "<type>numerical</type>\n<question>How many?</question>\n<answer>5</answer>";
        assert_eq!(both(good), [Some("How many?".into()), Some("How many?".into())]);
        let other_type = good.replace("numerical", "essay");
        assert_eq!(both(&other_type), [None, Some("How many?".into())]);
        let spaced = "< type > numerical < / type > so <question>How many?< / question><answer>5</answer> done";
        assert_eq!(both(spaced), [None, Some("How many?".into())]);
        for text in [
            "",
            "<type>numerical</type><question>q</question>",
            "<type>numerical</type><question> </question><answer>5</answer>",
            "<type>numerical</type><question>q</question><answer> </answer>",
            "<question>q</question><type>numerical</type><answer>5</answer>",
        ] {
            assert_eq!(both(text), [None, None], "{text}");
        }
        let parsed = parse_output(good, OutputForm::TypeQuestionAnswer, ParsingMode::Strict);
        let expected =
            ParsedQuestion { kind: Some("numerical".into()), question: "How many?".into(), answer: Some("5".into()) };
        assert_eq!(parsed, Some(expected));
    }

    #[test]
    fn the_nano_form_is_parsed() {
        let both = |text: &str| questions(text, OutputForm::TypeQuestion);
        let good = "<type>multiple choice</type><question>Is there a red circle? A yes B no</question>";
        let asked = Some("Is there a red circle? A yes B no".to_owned());
        assert_eq!(both(good), [asked.clone(), asked.clone()]);
        assert_eq!(both(&format!(" {} ", good.replace("><", "> <"))), [asked.clone(), asked.clone()]);
        for lenient_only in [
            format!("Sure: {good}"),
            format!("{good}<answer>A</answer>"),
            format!("{good}<question>Why?</question>"),
            good.replace("multiple choice", "essay"),
            good.replace("</type>", "< / type > so"),
        ] {
            assert_eq!(both(&lenient_only), [None, asked.clone()], "{lenient_only}");
        }
        for text in [
            "",
            "<question>Why?</question>",
            "<type>numerical</type><question> </question>",
            "<type> </type><question>Why?</question>",
            "<question>Why?</question><type>numerical</type>",
            "<type>numerical</type><question>Why?",
        ] {
            assert_eq!(both(text), [None, None], "{text}");
        }
        let parsed = parse_output(good, OutputForm::TypeQuestion, ParsingMode::Strict);
        let parsed = parsed.map(|parsed| (parsed.kind, parsed.answer));
        assert_eq!(parsed, Some((Some("multiple choice".to_owned()), None)));
    }

    #[test]
    fn marks_are_tidied_as_the_released_code_does() {
        assert_eq!(tidy_marks(" a < b / c >\n d "), " a<b/c>d ");
        assert_eq!(tidy_marks("< / answer >"), "</answer>");
        assert_eq!(tidy_marks("\n <think>"), "<think>");
    }
}
