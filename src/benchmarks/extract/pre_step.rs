//! The step before every rule: the part of a response that holds the answer.

use crate::benchmarks::python::text::strip;
use crate::grading::last_boxed;

/// Part of a response that holds the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerPart<'a> {
    /// The part.
    pub text: &'a str,
    /// Whether the response marks it by a tag or a box, so that it is nothing but the answer.
    pub is_marked: bool,
}

/// Returns the answer's part of a response: what follows the thinking, the content of the last
/// `<answer>` tag, and the content of the last box, as far as there are such. `None` if the
/// thinking never ends.
pub fn answer_part(response: &str) -> Option<AnswerPart<'_>> {
    let after = response.rfind("</think>").map_or(response, |at| &response[at + "</think>".len()..]);
    if after.contains("<think>") {
        return None;
    }
    let tagged = last_tagged(after);
    let text = tagged.unwrap_or(after);
    let boxed = last_boxed(text).map(without_style);
    let is_marked = tagged.is_some() || boxed.is_some();
    Some(AnswerPart { text: strip(boxed.unwrap_or(text)), is_marked })
}

/// Returns the content of the last `<answer>` that is closed.
fn last_tagged(text: &str) -> Option<&str> {
    let before_close = &text[..text.rfind("</answer>")?];
    let open = before_close.rfind("<answer>")? + "<answer>".len();
    Some(&before_close[open..])
}

/// Drops `\text{}`, `\mathrm{}` and dollar signs around a text.
fn without_style(text: &str) -> &str {
    let mut text = strip(text);
    loop {
        let inner = ["\\text{", "\\mathrm{"].iter().find_map(|open| {
            let inner = text.strip_prefix(open)?.strip_suffix('}')?;
            is_balanced(inner).then_some(inner)
        });
        let inner = inner.or_else(|| text.strip_prefix('$')?.strip_suffix('$').filter(|inner| !inner.contains('$')));
        match inner {
            Some(inner) => text = strip(inner),
            None => return text,
        }
    }
}

/// Whether every brace of a text is closed in it.
fn is_balanced(text: &str) -> bool {
    let step = |depth: i64, byte: u8| match byte {
        b'{' => Some(depth + 1),
        b'}' => Some(depth - 1).filter(|&depth| depth >= 0),
        _ => Some(depth),
    };
    text.bytes().try_fold(0, step) == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_found_behind_thinking_in_tags_and_boxes() {
        let cases = [
            ("B", "B", false),
            ("<think>A? </think> B", "B", false),
            ("<think>\\boxed{A}</think>\\boxed{ B }", "B", true),
            ("<think>a</think><think>b</think>c", "c", false),
            ("<answer>A</answer> no <answer> B. </answer>", "B.", true),
            ("<answer>so \\boxed{\\text{B}}</answer> \\boxed{C}", "B", true),
            ("\\boxed{$\\mathrm{B}$}", "B", true),
            ("\\boxed{\\text{a} \\text{b}}", "\\text{a} \\text{b}", true),
            ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}", true),
            ("\\boxed{A", "\\boxed{A", false),
            ("</answer>B<answer>", "</answer>B<answer>", false),
            ("", "", false),
        ];
        for (response, text, is_marked) in cases {
            assert_eq!(answer_part(response), Some(AnswerPart { text, is_marked }), "{response}");
        }
        assert_eq!(answer_part("<think>it is B"), None);
        assert_eq!(answer_part("<think>a</think><think>it is B"), None);
    }
}
