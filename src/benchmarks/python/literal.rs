//! Python literals in cells: lists, tuples, dicts, strings and numbers, read and never run.
//!
//! Benchmark files hold lists of options and metadata as the text that Python prints for them, with
//! both kinds of quotes in one list.

use std::iter::Peekable;
use std::str::CharIndices;

use thiserror::Error;

use super::text::strip;
use crate::grading::characters::parse_float;

/// Maximum depth of nested brackets.
const MAX_DEPTH: usize = 50;

/// A Python literal.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An int or a float, as it is written.
    Number(String),
    /// A string.
    Text(String),
    /// A list or a tuple.
    List(Vec<Literal>),
    /// A dict with string keys, in the order of the text.
    Dict(Vec<(String, Literal)>),
}

impl Literal {
    /// Returns the elements as texts, numbers as they are written; `None` if this is no list, or an
    /// element is neither a text nor a number.
    pub fn texts(&self) -> Option<Vec<String>> {
        let Self::List(elements) = self else { return None };
        elements.iter().map(Self::text).collect()
    }

    /// Returns the text of a string or number.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// Returns the value of a key of a dict.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Dict(entries) = self else { return None };
        entries.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value)
    }
}

/// Error for a text that is no literal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a Python literal: {problem} at character {position}")]
pub struct LiteralError {
    /// Description of the problem.
    pub problem: &'static str,
    /// Byte position in the text, from 0.
    pub position: usize,
}

/// Reads a literal.
///
/// ```
/// use visplay::benchmarks::python::literal;
/// let options = literal::parse(r#"['a', "it's"]"#)?;
/// assert_eq!(options.texts(), Some(vec!["a".to_owned(), "it's".to_owned()]));
/// # Ok::<(), literal::LiteralError>(())
/// ```
///
/// # Errors
/// The text is something else than one literal, such as a name or a call.
pub fn parse(text: &str) -> Result<Literal, LiteralError> {
    let text = strip(text);
    let mut reader = Reader { text, chars: text.char_indices().peekable() };
    let literal = reader.literal(0)?;
    reader.skip_spaces();
    match reader.chars.peek() {
        None => Ok(literal),
        Some(_) => Err(reader.error("something follows it")),
    }
}

struct Reader<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl Reader<'_> {
    fn error(&mut self, problem: &'static str) -> LiteralError {
        let position = self.position();
        LiteralError { problem, position }
    }

    fn position(&mut self) -> usize {
        self.chars.peek().map_or(self.text.len(), |&(at, _)| at)
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|&(_, c)| c)
    }

    fn take(&mut self, c: char) -> bool {
        self.chars.next_if(|&(_, next)| next == c).is_some()
    }

    fn skip_spaces(&mut self) {
        while self.chars.next_if(|&(_, c)| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c')).is_some() {}
    }

    fn literal(&mut self, depth: usize) -> Result<Literal, LiteralError> {
        if depth > MAX_DEPTH {
            return Err(self.error("brackets are nested too deeply"));
        }
        self.skip_spaces();
        match self.peek() {
            Some('[') => self.elements('[', ']', depth),
            Some('(') => self.elements('(', ')', depth),
            Some('{') => self.dict(depth),
            Some('\'' | '"') => self.strings(),
            Some('r' | 'R' | 'u' | 'U') if self.is_prefix() => self.strings(),
            Some(c) if c.is_ascii_digit() || matches!(c, '.' | '-' | '+') => self.number(),
            Some(_) => self.constant(),
            None => Err(self.error("it ends too early")),
        }
    }

    /// Whether a letter is the prefix of a string.
    fn is_prefix(&mut self) -> bool {
        let at = self.position();
        matches!(self.text.as_bytes().get(at + 1), Some(b'\'' | b'"'))
    }

    fn elements(&mut self, open: char, close: char, depth: usize) -> Result<Literal, LiteralError> {
        self.take(open);
        let mut elements = Vec::new();
        let mut has_comma = false;
        loop {
            self.skip_spaces();
            if self.take(close) {
                break;
            }
            if !elements.is_empty() && !has_comma {
                return Err(self.error("a comma or a closing bracket is missing"));
            }
            elements.push(self.literal(depth + 1)?);
            self.skip_spaces();
            has_comma = self.take(',');
        }
        // One element in parentheses without a comma is that element.
        if open == '(' && elements.len() == 1 && !has_comma {
            return Ok(elements.remove(0));
        }
        Ok(Literal::List(elements))
    }

    fn dict(&mut self, depth: usize) -> Result<Literal, LiteralError> {
        self.take('{');
        let mut entries = Vec::new();
        let mut has_comma = true;
        loop {
            self.skip_spaces();
            if self.take('}') {
                return Ok(Literal::Dict(entries));
            }
            if !has_comma {
                return Err(self.error("a comma or a closing brace is missing"));
            }
            let Literal::Text(key) = self.literal(depth + 1)? else {
                return Err(self.error("a key is not a string"));
            };
            self.skip_spaces();
            if !self.take(':') {
                return Err(self.error("a colon is missing"));
            }
            entries.push((key, self.literal(depth + 1)?));
            self.skip_spaces();
            has_comma = self.take(',');
        }
    }

    /// Reads one or more adjacent strings, which Python joins.
    fn strings(&mut self) -> Result<Literal, LiteralError> {
        let mut text = String::new();
        loop {
            let is_raw = self.chars.next_if(|&(_, c)| matches!(c, 'r' | 'R')).is_some();
            if !is_raw {
                self.chars.next_if(|&(_, c)| matches!(c, 'u' | 'U'));
            }
            self.string(is_raw, &mut text)?;
            self.skip_spaces();
            match self.peek() {
                Some('\'' | '"') => {}
                Some('r' | 'R' | 'u' | 'U') if self.is_prefix() => {}
                _ => return Ok(Literal::Text(text)),
            }
        }
    }

    fn string(&mut self, is_raw: bool, text: &mut String) -> Result<(), LiteralError> {
        let Some((_, quote)) = self.chars.next() else { return Err(self.error("it ends too early")) };
        loop {
            match self.chars.next() {
                None => return Err(self.error("a quote is not closed")),
                Some((_, c)) if c == quote => return Ok(()),
                Some((_, '\\')) => match self.chars.next() {
                    None => return Err(self.error("a quote is not closed")),
                    Some((_, c)) if is_raw => text.extend(['\\', c]),
                    Some((_, c)) => self.escape(c, text)?,
                },
                Some((_, c)) => text.push(c),
            }
        }
    }

    /// Reads what follows a backslash.
    fn escape(&mut self, c: char, text: &mut String) -> Result<(), LiteralError> {
        let (plain, digits) = match c {
            '\n' => return Ok(()),
            '\\' | '\'' | '"' => (c, 0),
            'n' => ('\n', 0),
            't' => ('\t', 0),
            'r' => ('\r', 0),
            'f' => ('\x0c', 0),
            'b' => ('\x08', 0),
            'a' => ('\x07', 0),
            'v' => ('\x0b', 0),
            'x' => (c, 2),
            'u' => (c, 4),
            'U' => (c, 8),
            '0'..='7' => return Err(self.error("an octal escape is not read")),
            // Python keeps the backslash of an unknown escape, as in '\pi'.
            _ => {
                text.push('\\');
                (c, 0)
            }
        };
        if digits == 0 {
            text.push(plain);
            return Ok(());
        }
        let mut code = 0;
        for _ in 0..digits {
            let digit = self.chars.next().and_then(|(_, c)| c.to_digit(16));
            code = code << 4 | digit.ok_or_else(|| self.error("an escape is cut short"))?;
        }
        text.push(char::from_u32(code).ok_or_else(|| self.error("an escape is no character"))?);
        Ok(())
    }

    fn number(&mut self) -> Result<Literal, LiteralError> {
        let start = self.position();
        let mut end = start;
        while let Some((at, c)) =
            self.chars.next_if(|&(_, c)| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_'))
        {
            end = at + c.len_utf8();
        }
        let text = &self.text[start..end];
        let is_number = text.bytes().any(|byte| byte.is_ascii_digit()) && parse_float(text).is_some();
        if is_number { Ok(Literal::Number(text.to_owned())) } else { Err(self.error("a number is malformed")) }
    }

    fn constant(&mut self) -> Result<Literal, LiteralError> {
        let start = self.position();
        for (name, value) in [("None", Literal::None), ("True", Literal::Bool(true)), ("False", Literal::Bool(false))] {
            let rest = &self.text[start..];
            if rest.strip_prefix(name).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
            {
                self.chars.nth(name.len() - 1);
                return Ok(value);
            }
        }
        Err(self.error("a name is not read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        parse(text).unwrap().texts().unwrap()
    }

    #[test]
    fn lists_of_options_are_read() {
        assert_eq!(texts(r#"['a', "it's", 'say "x"']"#), ["a", "it's", "say \"x\""]);
        assert_eq!(texts(r"['\\frac{1}{2}', r'\pi', '\pi', '\u00e9\x41']"), ["\\frac{1}{2}", "\\pi", "\\pi", "éA"]);
        assert_eq!(texts("('a' 'b', 'c',)"), ["ab", "c"]);
        assert_eq!(texts("[1, 2.5, -3, 1e3]"), ["1", "2.5", "-3", "1e3"]);
        assert_eq!(texts(" [] "), Vec::<String>::new());
        assert_eq!(texts("['a\\\nb']"), ["ab"]);
    }

    #[test]
    fn dicts_and_constants_are_read() {
        let dict = parse("{'split': 'testmini', 'x': None, \"y\": [True, False], 'z': {'n': 1}}").unwrap();
        assert_eq!(dict.get("split"), Some(&Literal::Text("testmini".into())));
        assert_eq!(dict.get("x"), Some(&Literal::None));
        assert_eq!(dict.get("y"), Some(&Literal::List(vec![Literal::Bool(true), Literal::Bool(false)])));
        assert_eq!(dict.get("z").and_then(|z| z.get("n")), Some(&Literal::Number("1".into())));
        assert_eq!(parse("('a')"), Ok(Literal::Text("a".into())));
    }

    #[test]
    fn everything_else_is_an_error_with_its_place() {
        for text in [
            "",
            "[",
            "['a'",
            "['a' 1]",
            "['a]",
            "[a]",
            "f()",
            "[1,,2]",
            "{1: 2}",
            "{'a' 1}",
            "Nonesense",
            "['\\x4']",
            "1 2",
            "[1] x",
            "'\\ud800'",
            "--1",
            "-",
            "1.2.3",
            "é",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(
            parse("['a', b]").unwrap_err().to_string(),
            "not a Python literal: a name is not read at character 6"
        );
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
