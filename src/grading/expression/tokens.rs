//! Tokenizer, like Python's `tokenize`.

use crate::grading::characters::{is_letter, is_word};

/// Kind of a token. Names and quoted names are distinguished because sympy's rewriting treats them
/// differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A name.
    Name,
    /// A name in quotes: the argument of `Symbol(..)`.
    Quoted,
    /// A number.
    Number,
    /// An operator, a bracket, or anything else.
    Op,
    /// A line end, or white space before `!`: Python keeps a token for it, so sympy inserts no
    /// product there.
    Blank,
    /// The end of the text.
    End,
}

/// A token: its kind and text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind,
    pub(super) text: &'a str,
}

impl<'a> Token<'a> {
    pub(super) fn op(text: &'a str) -> Self {
        Self { kind: TokenKind::Op, text }
    }

    pub(super) fn name(text: &'a str) -> Self {
        Self { kind: TokenKind::Name, text }
    }

    pub(super) fn is_op(&self, text: &str) -> bool {
        self.kind == TokenKind::Op && self.text == text
    }
}

/// Splits a text into tokens, with the end token; `None` for a text that Python cannot tokenize or
/// that is never mathematics in an answer (comparisons, assignments, comments, strings, indices).
pub(super) fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    let mut out = Vec::with_capacity(text.len() + 1);
    let (mut rest, mut depth) = (text, 0i64);
    while let Some(first) = rest.chars().next() {
        let (kind, length) = match first {
            '\n' | '\r' => {
                // Outside brackets, a line end would end the expression.
                if depth == 0 {
                    return None;
                }
                out.push(Token { kind: TokenKind::Blank, text: &rest[..1] });
                rest = &rest[1..];
                continue;
            }
            ' ' | '\t' | '\x0c' => {
                if rest.trim_start_matches([' ', '\t', '\x0c']).starts_with('!') {
                    out.push(Token { kind: TokenKind::Blank, text: &rest[..1] });
                }
                rest = &rest[1..];
                continue;
            }
            '0'..='9' => (TokenKind::Number, number_length(rest)),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => (TokenKind::Number, number_length(rest)),
            '*' if rest.starts_with("**") => (TokenKind::Op, 2),
            '/' if rest.starts_with("//") => return None,
            '+' | '-' | '*' | '/' | '(' | ')' | '!' | ',' => (TokenKind::Op, 1),
            c if is_letter(c) || c == '_' => (TokenKind::Name, rest.find(|c| !is_word(c)).unwrap_or(rest.len())),
            _ => return None,
        };
        let (piece, after) = rest.split_at(length);
        depth += i64::from(first == '(') - i64::from(first == ')');
        out.push(Token { kind, text: piece });
        rest = after;
    }
    out.push(Token { kind: TokenKind::End, text: "" });
    Some(out)
}

/// Returns the length of the number at the start of a text (`Imagnumber | Floatnumber | Intnumber`
/// of Python's `tokenize`).
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    if let Some(length) = radix_length(bytes) {
        return length;
    }
    let whole = digits_length(bytes, u8::is_ascii_digit);
    let mut end = whole;
    if bytes.get(end) == Some(&b'.') {
        end += 1;
        end += digits_length(&bytes[end..], u8::is_ascii_digit);
    }
    let with_exponent = end + exponent_length(&bytes[end..]);
    let is_float = with_exponent > whole;
    if matches!(bytes.get(with_exponent), Some(b'j' | b'J')) {
        return with_exponent + 1;
    }
    if is_float {
        return with_exponent;
    }
    // A leading zero ends a decimal integer: `007` is two numbers, `00` and `7`.
    if bytes[0] == b'0' { digits_length(bytes, |b| *b == b'0') } else { whole }
}

/// Returns the length of `0x1f`, `0b11` or `0o17`.
fn radix_length(bytes: &[u8]) -> Option<usize> {
    let accepts: fn(&u8) -> bool = match bytes {
        [b'0', b'x' | b'X', ..] => u8::is_ascii_hexdigit,
        [b'0', b'b' | b'B', ..] => |b| matches!(b, b'0' | b'1'),
        [b'0', b'o' | b'O', ..] => |b| (b'0'..=b'7').contains(b),
        _ => return None,
    };
    let from = if bytes.get(2) == Some(&b'_') { 3 } else { 2 };
    let length = digits_length(&bytes[from..], accepts);
    (length > 0).then_some(from + length)
}

fn exponent_length(bytes: &[u8]) -> usize {
    if !matches!(bytes.first(), Some(b'e' | b'E')) {
        return 0;
    }
    let sign = usize::from(matches!(bytes.get(1), Some(b'+' | b'-')));
    match digits_length(&bytes[1 + sign..], u8::is_ascii_digit) {
        0 => 0,
        digits => 1 + sign + digits,
    }
}

/// Returns the length of `[0-9](_?[0-9])*` for a set of digits; 0 if the first byte is not in the
/// set.
fn digits_length(bytes: &[u8], accepts: impl Fn(&u8) -> bool) -> usize {
    let mut end = 0;
    loop {
        let gap = usize::from(end > 0 && bytes.get(end) == Some(&b'_'));
        match bytes.get(end + gap) {
            Some(byte) if accepts(byte) => end += gap + 1,
            _ => return end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tokens;

    #[test]
    fn numbers_are_split_as_in_python() {
        let cases: [(&str, &[&str]); 9] = [
            ("2x", &["2", "x"]),
            ("1e5x", &["1e5", "x"]),
            ("1e", &["1", "e"]),
            ("007", &["00", "7"]),
            ("2.x", &["2.", "x"]),
            (".5**2", &[".5", "**", "2"]),
            ("0x1fg", &["0x1f", "g"]),
            ("1_000j", &["1_000j"]),
            ("00.5", &["00.5"]),
        ];
        for (text, parts) in cases {
            let actual = tokens(text).unwrap();
            let texts: Vec<&str> = actual.iter().map(|t| t.text).filter(|t| !t.is_empty()).collect();
            assert_eq!(texts, parts, "{text}");
        }
        for text in ["x=5", "a<b", "5#", "'a'", "5//2", "x*=2", "²", "a:b"] {
            assert_eq!(tokens(text), None, "{text}");
        }
    }
}
