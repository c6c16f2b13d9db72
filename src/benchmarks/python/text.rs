//! Python's methods of strings.

use crate::grading::characters::{is_space, strip as strip_spaces};

/// Returns the parts between runs of white space: `str.split()`.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|part| !part.is_empty())
}

/// Returns the text without white space at both ends: `str.strip()`.
pub fn strip(text: &str) -> &str {
    strip_spaces(text)
}

/// Returns the text without any of the marks at both ends, one kind of mark after another, each
/// with all its repetitions: `"'x'."` loses the dot before the quotes only if the dot comes first.
pub fn strip_marks<'a>(text: &'a str, marks: &[char]) -> &'a str {
    marks.iter().fold(text, |text, &mark| text.trim_matches(mark))
}

/// Returns the number of characters: `len(str)`.
pub fn length(text: &str) -> usize {
    text.chars().count()
}

/// Returns the first `count` characters: `text[:count]`.
pub fn prefix(text: &str, count: usize) -> &str {
    text.char_indices().nth(count).map_or(text, |(end, _)| &text[..end])
}

/// Returns what follows the last occurrence of a separator, or the whole text without one:
/// `text.split(separator)[-1]`.
pub fn after_last<'a>(text: &'a str, separator: &str) -> &'a str {
    // `str.split` reads from the left, which matters where a separator overlaps itself.
    text.split(separator).last().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_pythons() {
        let parts: Vec<&str> = split(" a\u{a0}b\u{3000}\x1cc\u{200b}d\n").collect();
        assert_eq!(parts, ["a", "b", "c\u{200b}d"]);
        assert_eq!(strip("\u{feff} a \x1f"), "\u{feff} a");
    }

    #[test]
    fn marks_are_stripped_one_kind_after_another() {
        assert_eq!(strip_marks("'B'.", &['.', '\'']), "B");
        assert_eq!(strip_marks("'B'.", &['\'', '.']), "B'");
    }

    #[test]
    fn characters_are_counted_not_bytes() {
        assert_eq!((length("né"), prefix("né1", 2), prefix("n", 5)), (2, "né", "n"));
        assert_eq!((after_last("a is b is c", "is "), after_last("a", "is ")), ("c", "a"));
    }
}
