//! Elements of tuples and intervals.

use super::sympy_form::without_thousands;

const BRACKETS: [char; 4] = ['(', ')', '[', ']'];

/// Returns the elements of a second normal form: those between its brackets, or the whole form if
/// it is not a tuple.
///
/// Thousands separators are removed first, so `(1,234, 5)` has two elements. Any kind of bracket is
/// accepted. With brackets inside, the outer pair need not match, so the form is not a tuple.
pub(super) fn elements(form: &str) -> Vec<String> {
    let form = if form.contains(',') { without_thousands(form) } else { form.to_owned() };
    match inside_brackets(&form) {
        Some(inner) => inner.split(',').map(|element| super::characters::strip(element).to_owned()).collect(),
        None if form.is_empty() => Vec::new(),
        None => vec![form],
    }
}

fn inside_brackets(form: &str) -> Option<&str> {
    let inner = form.strip_prefix(BRACKETS)?.strip_suffix(BRACKETS)?;
    (!inner.is_empty() && !inner.contains(BRACKETS)).then_some(inner)
}

/// Whether an element is written as a fraction (`^-?[0-9]+.?/0*[1-9][0-9]*.?$`).
pub(super) fn is_fraction(element: &str) -> bool {
    let rest = element.strip_prefix('-').unwrap_or(element);
    let above = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    if above.len() == rest.len() {
        return false;
    }
    is_denominator(above) || skip_character(above).is_some_and(is_denominator)
}

/// Whether the rest of a fraction is a slash and a denominator: `/0*[1-9][0-9]*.?$`.
fn is_denominator(rest: &str) -> bool {
    let Some(below) = rest.strip_prefix('/') else { return false };
    let after = below.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &below[..below.len() - after.len()];
    let ends = |text: &str| text.is_empty() || text == "\n";
    digits.bytes().any(|digit| digit != b'0') && (ends(after) || skip_character(after).is_some_and(ends))
}

/// Returns the text after its first character; `None` if that is a newline or missing.
fn skip_character(text: &str) -> Option<&str> {
    let first = text.chars().next().filter(|&c| c != '\n')?;
    Some(&text[first.len_utf8()..])
}

#[cfg(test)]
mod tests {
    use super::{elements, is_fraction};

    #[test]
    fn tuples_are_split() {
        assert_eq!(elements("(1,234,5)"), ["1234", "5"]);
        assert_eq!(elements("[0,1)"), ["0", "1"]);
        assert_eq!(elements("(b)"), ["b"]);
        assert_eq!(elements("1,2"), ["1,2"]);
        assert_eq!(elements("(1)(2)"), ["(1)(2)"]);
        assert_eq!(elements("()"), ["()"]);
        assert!(elements("").is_empty());
    }

    #[test]
    fn fractions_are_recognized() {
        for text in ["1/2", "-10/03", "1)/2", "1/2)", "5//2"] {
            assert!(is_fraction(text), "{text}");
        }
        for text in ["x/2", "1/0", "1/2ab", "1.5/2", "/2", "--1/2"] {
            assert!(!is_fraction(text), "{text}");
        }
    }
}
