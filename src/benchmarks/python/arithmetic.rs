//! Arithmetic in Python's notation, read and never run.
//!
//! One published scorer runs answers as Python. Here only numbers, brackets and operators have a
//! value: `30/2`, `(15)`, `1.5e1`, `2**3`, and `10^3`, which is 9 because `^` is the exclusive or.
//! Names, calls, tuples and comparisons have none.

use super::number::Number;
use crate::grading::characters::is_space;

/// Maximum depth of nested brackets and signs.
const MAX_DEPTH: usize = 100;

/// Returns the value of an expression; `None` if it is none of the kind that is read, or has no
/// value. A bound letter has its value.
///
/// ```
/// use visplay::benchmarks::python::{arithmetic::evaluate, number::Number};
/// assert_eq!(evaluate("(1+2)*5", None), Some(Number::Int(15)));
/// assert_eq!(evaluate("fifteen", None), None);
/// ```
pub fn evaluate(text: &str, binding: Option<(char, Number)>) -> Option<Number> {
    // Python strips spaces and tabs before an expression, and a line end outside brackets ends it.
    let text = text.trim_matches([' ', '\t']);
    if text.chars().any(|c| is_space(c) && c != ' ' && c != '\t') {
        return None;
    }
    let mut reader = Reader { bytes: text.as_bytes(), at: 0, depth: 0, binding };
    let value = reader.binary(0)?;
    reader.skip_spaces();
    (reader.at == text.len()).then_some(value)
}

/// Binary operators by precedence, the loosest first. Within a row, longer ones come first.
const LEVELS: [&[&str]; 6] = [&["|"], &["^"], &["&"], &["<<", ">>"], &["+", "-"], &["//", "*", "/", "%"]];

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    binding: Option<(char, Number)>,
}

impl Reader<'_> {
    fn skip_spaces(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn take(&mut self, operator: &str) -> bool {
        self.skip_spaces();
        let rest = &self.bytes[self.at..];
        // A product is not the beginning of a power.
        let found = rest.starts_with(operator.as_bytes()) && !(operator == "*" && rest.starts_with(b"**"));
        self.at += if found { operator.len() } else { 0 };
        found
    }

    fn binary(&mut self, level: usize) -> Option<Number> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = operators.iter().find(|operator| self.take(operator)) {
            let right = self.binary(level + 1)?;
            left = match *operator {
                "+" => left.plus(right),
                "-" => left.minus(right),
                "*" => left.times(right),
                "/" => left.divide(right),
                "//" => left.floor_divide(right),
                "%" => left.remainder(right),
                bitwise => of_bits(bitwise, left, right),
            }?;
        }
        Some(left)
    }

    fn unary(&mut self) -> Option<Number> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let value = if self.take("-") {
            self.unary()?.negate()
        } else if self.take("+") {
            self.unary()
        } else if self.take("~") {
            self.unary().and_then(|value| if let Number::Int(n) = value { Some(Number::Int(!n)) } else { None })
        } else {
            self.power()
        };
        self.depth -= 1;
        value
    }

    fn power(&mut self) -> Option<Number> {
        let base = self.atom()?;
        if self.take("**") { base.power(self.unary()?) } else { Some(base) }
    }

    fn atom(&mut self) -> Option<Number> {
        if self.take("(") {
            let value = self.binary(0)?;
            return self.take(")").then_some(value);
        }
        self.bound_letter().or_else(|| self.number())
    }

    fn bound_letter(&mut self) -> Option<Number> {
        self.skip_spaces();
        let (letter, value) = self.binding?;
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
        let found = self.bytes.get(self.at).is_some_and(|&byte| char::from(byte) == letter);
        let ends = self.bytes.get(self.at + 1).is_none_or(|byte| !is_word(byte));
        self.at += usize::from(found && ends);
        (found && ends).then_some(value)
    }

    /// Reads a number. A space ends it, and a letter right behind it makes it invalid.
    fn number(&mut self) -> Option<Number> {
        self.skip_spaces();
        let start = self.at;
        self.digits();
        let has_fraction = self.bytes.get(self.at) == Some(&b'.');
        if has_fraction {
            self.at += 1;
            self.digits();
        }
        let mantissa = self.at;
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) && mantissa > start {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            let exponent = self.at;
            self.digits();
            if self.at == exponent {
                return None;
            }
        }
        if self
            .bytes
            .get(self.at)
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') || !byte.is_ascii())
        {
            return None;
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).ok()?;
        if has_fraction || self.at > mantissa {
            return crate::grading::characters::parse_float(text).map(Number::Float);
        }
        let digits = text.replace('_', "");
        // An int has no leading zero, unless all its digits are zeros.
        if digits.len() > 1 && digits.starts_with('0') && digits.bytes().any(|digit| digit != b'0') {
            return None;
        }
        digits.parse().ok().map(Number::Int)
    }

    /// Skips digits, which may have single underscores between them.
    fn digits(&mut self) {
        let digit = |at: usize| self.bytes.get(at).is_some_and(u8::is_ascii_digit);
        let mut at = self.at;
        while digit(at) || (self.bytes.get(at) == Some(&b'_') && at > self.at && digit(at - 1) && digit(at + 1)) {
            at += 1;
        }
        self.at = at;
    }
}

fn of_bits(operator: &str, left: Number, right: Number) -> Option<Number> {
    let (Number::Int(a), Number::Int(b)) = (left, right) else { return None };
    let shift = || u32::try_from(b).ok().filter(|&n| n < 64);
    let value = match operator {
        "|" => a | b,
        "^" => a ^ b,
        "&" => a & b,
        "<<" => a.checked_mul(1 << shift()?)?,
        _ => a >> shift()?,
    };
    Some(Number::Int(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Number::{Float, Int};

    #[test]
    fn values_are_pythons() {
        let cases = [
            ("30/2", Some(Float(15.0))),
            ("(15)", Some(Int(15))),
            (" 15", Some(Int(15))),
            ("10^3", Some(Int(9))),
            ("-2**2", Some(Int(-4))),
            ("2**-1", Some(Float(0.5))),
            ("2**3**2", Some(Int(512))),
            ("7//2*2", Some(Int(6))),
            ("1_000", Some(Int(1000))),
            ("1.5e1", Some(Float(15.0))),
            ("15.", Some(Float(15.0))),
            (".5", Some(Float(0.5))),
            ("00", Some(Int(0))),
            ("1<<3|1", Some(Int(9))),
            ("~1", Some(Int(-2))),
            ("5 %3", Some(Int(2))),
            ("--3", Some(Int(3))),
        ];
        for (text, value) in cases {
            assert_eq!(evaluate(text, None), value, "{text}");
        }
        for text in
            ["", "0015", "1,5", "2 3", "2(3)", "x", "15%", "1__0", "_1", "1e", "(1", "1)", "1\n", "nan", "5j", "é"]
        {
            assert_eq!(evaluate(text, None), None, "{text}");
        }
        let deep = "(".repeat(100_000);
        assert_eq!(evaluate(&deep, None), None);
        assert_eq!(evaluate("2*a", Some(('a', Int(5)))), Some(Int(10)));
        assert_eq!(evaluate("ab", Some(('a', Int(5)))), None);
    }
}
