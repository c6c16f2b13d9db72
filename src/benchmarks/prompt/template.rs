//! Templates of prompts, and how they are filled.

use thiserror::Error;

use super::PromptPart;
use crate::benchmarks::item::BenchmarkItem;

/// Variables of a template.
const VARIABLES: [&str; 4] = ["image", "question", "options", "hint"];

/// Form of the options in a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionStyle {
    /// Lines such as `(A) text`.
    Bracketed,
    /// Lines such as `A. text`.
    Dotted,
    /// One line such as `(a) text (b) text`.
    OneLine,
}

/// Place of the images in a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// At the variable, all of them; marks stay in the text.
    AtVariable,
    /// In place of the marks `<image 1>`, `<image 2>`, .. if there are any; else at the
    /// variable.
    AtMarks,
}

/// A template of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    style: OptionStyle,
    placement: Placement,
}

/// Error for a template that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// A variable that does not exist.
    #[error("{{{{{0}}}}} is no variable; there are {{{{image}}}}, {{{{question}}}}, {{{{options}}}} and {{{{hint}}}}")]
    Unknown(String),
    /// The question is missing.
    #[error("the template has no {{{{question}}}}")]
    NoQuestion,
}

impl Template {
    /// Checks a template.
    ///
    /// # Errors
    /// It has an unknown variable, or none for the question.
    pub fn new(text: &str, style: OptionStyle, placement: Placement) -> Result<Self, TemplateError> {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else { break };
            if !VARIABLES.contains(&name) {
                return Err(TemplateError::Unknown(name.to_owned()));
            }
            rest = after;
        }
        if !text.contains("{{question}}") {
            return Err(TemplateError::NoQuestion);
        }
        Ok(Self::unchecked(text, style, placement))
    }

    /// Wraps a text that is part of the program.
    pub(super) fn unchecked(text: &str, style: OptionStyle, placement: Placement) -> Self {
        Self { text: text.to_owned(), style, placement }
    }

    /// Fills the template with an item's parts. Without a variable for images they come first.
    pub fn fill(&self, item: &BenchmarkItem) -> Vec<PromptPart> {
        let options = self.options(item);
        let parts = [
            ("{{question}}", item.query.as_deref().unwrap_or(&item.question)),
            ("{{options}}", options.as_str()),
            ("{{hint}}", item.hint.as_deref().unwrap_or_default()),
        ];
        let lines = self.text.split_inclusive('\n').filter(|line| {
            parts
                .iter()
                .all(|(variable, part)| !part.is_empty() || *variable == "{{question}}" || !line.contains(variable))
        });
        let text: String = lines.map(|line| fill_once(line, &parts)).collect();
        let text = if text.contains("{{image}}") { text } else { format!("{{{{image}}}}{text}") };
        let count = item.images.len();
        let without = text.replacen("{{image}}", "", 1);
        match self.placement {
            Placement::AtMarks if first_mark(&without, count).is_some() => at_marks(&without, count),
            _ => at_variable(&text, count),
        }
    }

    fn options(&self, item: &BenchmarkItem) -> String {
        if item.has_options_in_question {
            return String::new();
        }
        let line = |(letter, text): (char, &str)| match self.style {
            OptionStyle::Bracketed => format!("({letter}) {text}"),
            OptionStyle::Dotted => format!("{letter}. {text}"),
            OptionStyle::OneLine => format!("({}) {text}", letter.to_ascii_lowercase()),
        };
        let separator = if self.style == OptionStyle::OneLine { " " } else { "\n" };
        item.options.iter().map(line).collect::<Vec<_>>().join(separator)
    }
}

/// Replaces variables from left to right, so that an item's text is never searched for them.
fn fill_once(line: &str, parts: &[(&str, &str)]) -> String {
    let (mut filled, mut rest) = (String::new(), line);
    while let Some((at, (variable, part))) =
        parts.iter().filter_map(|part| Some((rest.find(part.0)?, part))).min_by_key(|(at, _)| *at)
    {
        filled.push_str(&rest[..at]);
        filled.push_str(part);
        rest = &rest[at + variable.len()..];
    }
    filled + rest
}

fn at_variable(text: &str, count: usize) -> Vec<PromptPart> {
    let (before, after) = text.split_once("{{image}}").unwrap_or(("", text));
    let images = (0..count).map(PromptPart::Image);
    let texts = |text: &str| (!text.is_empty()).then(|| PromptPart::Text(text.to_owned()));
    texts(before).into_iter().chain(images).chain(texts(after)).collect()
}

/// Finds the first mark of an image: its position, its length, and the image from 0.
fn first_mark(text: &str, count: usize) -> Option<(usize, usize, usize)> {
    const OPEN: &str = "<image ";
    text.match_indices(OPEN).find_map(|(at, _)| {
        let (number, _) = text[at + OPEN.len()..].split_once('>')?;
        let image = number.parse::<usize>().ok()?.checked_sub(1).filter(|&image| image < count)?;
        Some((at, OPEN.len() + number.len() + 1, image))
    })
}

/// Splits a text at the marks of images. Images without a mark are left out, as upstream does.
fn at_marks(text: &str, count: usize) -> Vec<PromptPart> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some((at, length, image)) = first_mark(rest, count) {
        if at > 0 {
            parts.push(PromptPart::Text(rest[..at].to_owned()));
        }
        parts.push(PromptPart::Image(image));
        rest = &rest[at + length..];
    }
    if !rest.is_empty() {
        parts.push(PromptPart::Text(rest.to_owned()));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::extract::Options;
    use crate::benchmarks::{Benchmark, Labels, Protocol, QuestionKind, prompt};
    use crate::ids::{Digest, ImageId};

    fn item(question: &str, images: usize) -> BenchmarkItem {
        BenchmarkItem {
            benchmark: Benchmark::Mmmu,
            official_id: None,
            kind: QuestionKind::MultipleChoice,
            question: question.into(),
            query: None,
            hint: None,
            options: Options::from_texts(["red", "<image 2> {{hint}}"]),
            has_options_in_question: false,
            golds: vec!["A".into()],
            gold_details: None,
            images: (0..images).map(|n| ImageId(Digest::of(&[n as u8]))).collect(),
            labels: Labels::default(),
        }
    }

    /// Shows a prompt as one text, images as `[n]`.
    fn shown(parts: &[PromptPart]) -> String {
        let show = |part: &PromptPart| match part {
            PromptPart::Text(text) => text.clone(),
            PromptPart::Image(n) => format!("[{n}]"),
        };
        parts.iter().map(show).collect()
    }

    fn built(item: &BenchmarkItem, protocol: Protocol) -> String {
        shown(&prompt::build(item, protocol).unwrap())
    }

    #[test]
    fn vlmevalkit_puts_images_at_their_marks() {
        let text = built(&item("In <image 1> or <image 2>?", 2), Protocol::VlmEvalKit);
        assert!(text.starts_with("Question: In [0] or [1]?\nOptions:\nA. red\nB. [1] {{hint}}\n"), "{text}");
        // The mark in the option is one, too.
        let text = built(&item("Which?", 2), Protocol::VlmEvalKit);
        assert!(text.starts_with("Question: Which?\nOptions:\nA. red\nB. [1] "), "{text}");
        let text = built(
            &BenchmarkItem { options: Options::from_texts(["a", "b"]), ..item("Which?", 2) },
            Protocol::VlmEvalKit,
        );
        assert!(text.starts_with("[0][1]Question: Which?\n"), "{text}");
    }

    #[test]
    fn official_prompts_have_all_images_first_and_marks_in_the_text() {
        let text = built(&item("In <image 1>?", 2), Protocol::Official);
        assert!(text.starts_with("[0][1]In <image 1>?\n\n(A) red\n(B) <image 2> {{hint}}\n\n"), "{text}");
    }

    #[test]
    fn empty_parts_leave_no_lines() {
        let with_hint = BenchmarkItem { hint: Some("look".into()), ..item("Which?", 1) };
        assert!(built(&with_hint, Protocol::VlmEvalKit).contains("Hint: look\n"));
        assert!(!built(&item("Which?", 1), Protocol::VlmEvalKit).contains("Hint"));
        let inside = BenchmarkItem { has_options_in_question: true, ..item("Which? A: x", 1) };
        assert!(!built(&inside, Protocol::VlmEvalKit).contains("B."));
        let open = BenchmarkItem { kind: QuestionKind::Open, options: Options::default(), ..item("What?", 1) };
        assert_eq!(built(&open, Protocol::VlmEvalKit), "[0]Question: What?\n");
    }

    #[test]
    fn every_benchmark_has_a_prompt_in_every_protocol() {
        for benchmark in Benchmark::ALL {
            for protocol in Protocol::ALL {
                for kind in [QuestionKind::MultipleChoice, QuestionKind::Open, QuestionKind::YesNo] {
                    let item = BenchmarkItem { benchmark, kind, ..item("the question", 1) };
                    let parts = prompt::build(&item, protocol);
                    assert_eq!(parts.is_some(), protocol.is_defined_for(benchmark));
                    let Some(parts) = parts else { continue };
                    assert!(shown(&parts).contains("the question"), "{benchmark:?} {protocol:?}");
                    assert_eq!(parts.iter().filter(|part| matches!(part, PromptPart::Image(_))).count(), 1);
                }
            }
        }
    }

    #[test]
    fn templates_are_checked() {
        let new = |text| Template::new(text, OptionStyle::Dotted, Placement::AtVariable);
        assert_eq!(new("{{question}} {{choices}}"), Err(TemplateError::Unknown("choices".into())));
        assert_eq!(new("{{image}}"), Err(TemplateError::NoQuestion));
        let template = new("Look:\n{{image}}\n{{question}}").unwrap();
        assert_eq!(shown(&template.fill(&item("What?", 2))), "Look:\n[0][1]\nWhat?");
        assert_eq!(
            TemplateError::Unknown("x".into()).to_string(),
            "{{x}} is no variable; there are {{image}}, {{question}}, {{options}} and {{hint}}"
        );
    }
}
