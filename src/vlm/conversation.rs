//! The text of a template of a whole conversation, which ends where the model's turn begins.
//!
//! White space that an editor adds or removes without showing it must not become tokens, so one
//! text stands for all files that differ only in it. The rules, for every template:
//!
//! - Line ends and byte order marks are those of [`text_file::decode`].
//! - White space before the first turn, and at the end of a line that ends with a role header or
//!   `<|im_end|>`, is dropped.
//! - The text ends with exactly one newline after the last role header. If an answer is begun after
//!   it, the text ends with the last visible character of that answer, without a newline.

use crate::text_file;

/// The token that begins a turn.
pub const IM_START: &str = "<|im_start|>";
/// The token that ends a turn, and so an answer.
pub const IM_END: &str = "<|im_end|>";
/// The role that a template ends with.
const MODEL_ROLE: &str = "assistant";

/// Decodes and normalises the bytes of a template. The error is a problem of the file.
///
/// # Errors
/// The bytes are not UTF-8, or a line has a control character other than a tab.
pub(super) fn normalise(bytes: &[u8]) -> Result<String, String> {
    let text = text_file::decode(bytes).map_err(|e| e.to_string())?;
    for (number, line) in (1..).zip(text.split('\n')) {
        if let Some(c) = line.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(format!("line {number} has the control character U+{:04X}; remove it", c as u32));
        }
    }
    let mut lines: Vec<&str> = text.split('\n').map(without_trailing_space).collect();
    if text.trim_start().starts_with(IM_START) {
        let blank = lines.iter().take_while(|line| line.trim().is_empty()).count();
        lines.drain(..blank);
        lines[0] = lines[0].trim_start();
    }
    let text = lines.join("\n");
    let Some((before, header, begun)) = last_turn(&text) else { return Ok(text) };
    Ok(match begun.trim_end() {
        "" => format!("{before}{IM_START}{}\n", header.trim_end()),
        begun => format!("{before}{IM_START}{header}\n{begun}"),
    })
}

/// Checks that a normalised template ends where the model's turn begins. The error is a problem of
/// the file.
///
/// # Errors
/// It has no role header at its end, or the header of another role than the model's.
pub(super) fn check_end(text: &str) -> Result<(), String> {
    let problem = match last_turn(text) {
        _ if !text.contains(IM_START) => "the template has no role header".to_owned(),
        None => format!("the template ends with the end of a turn, {IM_END}"),
        Some((_, MODEL_ROLE, _)) => return Ok(()),
        Some((_, header, _)) => format!("the last role header of the template is `{IM_START}{header}`"),
    };
    Err(format!("{problem}; it must end with `{IM_START}{MODEL_ROLE}`, on a line of its own"))
}

/// Splits a template at its last turn, if that is open: the text before it, the rest of its header
/// line, and the lines that follow.
fn last_turn(text: &str) -> Option<(&str, &str, &str)> {
    let (before, turn) = text.rsplit_once(IM_START)?;
    let (header, begun) = turn.split_once('\n').unwrap_or((turn, ""));
    (!turn.contains(IM_END)).then_some((before, header, begun))
}

/// Drops white space at the end of a line that ends with a role header or the end of a turn.
fn without_trailing_space(line: &str) -> &str {
    let trimmed = line.trim_end();
    let header = trimmed.rsplit_once(IM_START).is_some_and(|(_, role)| role.chars().all(char::is_alphanumeric));
    if header || trimmed.ends_with(IM_END) { trimmed } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL_FORMED: &str = "<|im_start|>user\n{{image}}{{question}}<|im_end|>\n<|im_start|>assistant\n";

    fn normalised(text: &str) -> String {
        normalise(text.as_bytes()).unwrap()
    }

    #[test]
    fn invisible_white_space_makes_no_difference() {
        assert_eq!(normalised(WELL_FORMED), WELL_FORMED);
        let end = WELL_FORMED.trim_end();
        for text in [
            end.to_owned(),
            format!("{end} \t"),
            format!("{end}\n\n \n"),
            format!("{end} \r\n"),
            format!("\u{feff}\n \n{WELL_FORMED}"),
            WELL_FORMED.replace('\n', "\r\n"),
            WELL_FORMED.replace('\n', "\r"),
            WELL_FORMED.replace("user\n", "user  \n").replace("<|im_end|>\n", "<|im_end|>\t\n"),
            WELL_FORMED.replace('\n', "\u{a0}\n").replace("user\u{a0}", "user"),
        ] {
            assert_eq!(normalised(&text), WELL_FORMED, "{text:?}");
        }
    }

    #[test]
    fn a_begun_answer_is_kept_up_to_its_last_visible_character() {
        let begun = format!("{WELL_FORMED}<think>\n First, ");
        for end in ["", "\n", "\r\n", "\n\n", " \n"] {
            assert_eq!(normalised(&format!("{begun}{end}")), begun.trim_end(), "{end:?}");
        }
        check_end(begun.trim_end()).unwrap();
    }

    #[test]
    fn a_template_that_does_not_end_in_the_models_turn_is_an_error() {
        let error = |text: &str| check_end(&normalised(text)).unwrap_err();
        for text in ["", "{{image}}{{question}}", "<|im_start|"] {
            assert!(error(text).starts_with("the template has no role header; it must end with"), "{text:?}");
        }
        assert!(error(&format!("{WELL_FORMED}yes<|im_end|>")).contains("ends with the end of a turn"));
        for role in ["user", "asistant", "assistant: yes", " assistant", ""] {
            assert!(error(&format!("{WELL_FORMED}<|im_start|>{role}\n")).contains("the last role header"), "{role}");
        }
        let unreadable = |bytes: &[u8]| normalise(bytes).unwrap_err();
        assert!(unreadable(b"\xff\xfea\0").contains("save it as UTF-8"));
        assert!(unreadable(b"a\nb\x1a").contains("line 2 has the control character U+001A"));
    }
}
