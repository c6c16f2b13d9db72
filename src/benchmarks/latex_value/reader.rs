//! Reader of LaTeX expressions: sums, products, powers, fractions, roots and a few functions.

use super::token::Token;
use super::{Binding, Dialect};
use crate::benchmarks::python::number::Number::{self, Float, Int};

/// Maximum depth of nested brackets and signs.
const MAX_DEPTH: usize = 60;

/// A value with what its way of writing decides.
#[derive(Debug, Clone, Copy)]
struct Value {
    number: Number,
    /// Numerator and denominator, if this is written as one number or one fraction of integers.
    ratio: Option<(i128, i128)>,
}

impl Value {
    fn plain(number: Number) -> Self {
        Self { number, ratio: None }
    }

    fn ratio(p: i128, q: i128) -> Option<Self> {
        let divisor = gcd(p.unsigned_abs(), q.unsigned_abs());
        let divisor = i128::try_from(divisor).ok().filter(|&divisor| divisor != 0)?;
        let (p, q) = if q < 0 { (p.checked_neg()? / divisor, -(q / divisor)) } else { (p / divisor, q / divisor) };
        let number = if q == 1 { Int(p) } else { Float(p as f64 / q as f64) };
        Some(Self { number, ratio: Some((p, q)) })
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Reads a whole expression.
pub(super) fn read(tokens: &[Token<'_>], dialect: Dialect, binding: Option<Binding>) -> Option<Number> {
    let mut reader = Reader { tokens, at: 0, depth: 0, dialect, binding };
    // MATH-Vision's reader takes `x = 3` for an assignment.
    if let (Dialect::MathVision, [Token::Letter(_), Token::Mark('='), ..]) = (dialect, tokens) {
        reader.at = 2;
    }
    let value = reader.sum()?;
    let is_end = match reader.peek() {
        None => true,
        // MATH-Vision's reader ignores what begins with a bracket that closes nothing.
        Some(Token::Mark(mark)) => dialect == Dialect::MathVision && matches!(mark, ')' | ']' | '}' | '>' | '_'),
        // VLMEvalKit's takes the left side of an approximation.
        Some(token) => dialect == Dialect::VlmEvalKit && token == Token::Command("approx"),
    };
    is_end.then_some(value.number)
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    depth: usize,
    dialect: Dialect,
    binding: Option<Binding>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<Token<'_>> {
        self.tokens.get(self.at).copied()
    }

    fn take(&mut self, mark: char) -> bool {
        let found = self.peek() == Some(Token::Mark(mark));
        self.at += usize::from(found);
        found
    }

    fn is_math_vision(&self) -> bool {
        self.dialect == Dialect::MathVision
    }

    fn sum(&mut self) -> Option<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let mut value = self.product()?;
        loop {
            let number = if self.take('+') {
                value.number.plus(self.product()?.number)
            } else if self.take('-') {
                value.number.minus(self.product()?.number)
            } else {
                break;
            };
            value = Value::plain(number?);
        }
        self.depth -= 1;
        Some(value)
    }

    fn product(&mut self) -> Option<Value> {
        let mut value = self.signed()?;
        loop {
            if self.take('*') {
                value = Value::plain(value.number.times(self.signed()?.number)?);
            } else if self.take('/') {
                let divisor = self.signed()?;
                value = self.quotient(value, divisor)?;
            } else {
                return Some(value);
            }
        }
    }

    fn quotient(&self, value: Value, divisor: Value) -> Option<Value> {
        match (value.ratio, divisor.ratio) {
            (Some((p, 1)), Some((q, 1))) if !self.is_math_vision() => Value::ratio(p, q).filter(|_| q != 0),
            _ => value.number.divide(divisor.number).map(Value::plain),
        }
    }

    fn signed(&mut self) -> Option<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let value = if self.take('+') {
            self.signed()?
        } else if self.take('-') {
            let value = self.signed()?;
            let ratio = value.ratio.and_then(|(p, q)| Some((p.checked_neg()?, q)));
            Value { number: value.number.negate()?, ratio }
        } else {
            let first = self.factor()?;
            self.juxtaposed(first)?
        };
        self.depth -= 1;
        Some(value)
    }

    /// Combines a factor with those that follow it without an operator, the last ones first.
    fn juxtaposed(&mut self, first: Value) -> Option<Value> {
        let mut factors = vec![first];
        while self.begins_factor() {
            factors.push(self.factor()?);
        }
        let mut value = factors.pop()?;
        for left in factors.into_iter().rev() {
            let mixed = match (left.ratio, value.ratio) {
                (Some((whole, 1)), Some((p, q))) if !self.is_math_vision() && p > 0 => {
                    let p = if whole < 0 { p.checked_neg()? } else { p };
                    Some(Value::ratio(whole.checked_mul(q)?.checked_add(p)?, q)?)
                }
                _ => None,
            };
            value = match mixed {
                Some(mixed) => mixed,
                None => Value::plain(left.number.times(value.number)?),
            };
        }
        Some(value)
    }

    fn begins_factor(&self) -> bool {
        match self.peek() {
            Some(Token::Mark(mark)) => matches!(mark, '(' | '[' | '{' | '<'),
            Some(Token::Command("approx")) => false,
            Some(_) => true,
            None => false,
        }
    }

    /// Reads an atom with its powers, factorials and per cent signs.
    fn factor(&mut self) -> Option<Value> {
        let mut value = self.atom()?;
        loop {
            if self.take('^') {
                if !self.is_math_vision() && self.take_degree() {
                    continue;
                }
                let exponent = self.exponent()?;
                value = Value::plain(value.number.power(exponent.number)?);
            } else if self.take('!') {
                value = Value::plain(factorial(value.number).filter(|_| self.is_math_vision())?);
            } else if self.take('%') {
                value = Value::plain(if self.is_math_vision() {
                    value.number.divide(Int(100))?
                } else {
                    value.number.times(Float(0.01))?
                });
            } else {
                return Some(value);
            }
        }
    }

    /// Reads an exponent: braces, or one token. Brackets and roots need braces.
    fn exponent(&mut self) -> Option<Value> {
        match self.peek()? {
            Token::Mark('{') => self.braced(),
            Token::Number(_) | Token::Letter(_) | Token::Command("pi") => self.atom(),
            _ => None,
        }
    }

    fn take_degree(&mut self) -> bool {
        let forms: [&[Token<'_>]; 2] =
            [&[Token::Command("circ")], &[Token::Mark('{'), Token::Command("circ"), Token::Mark('}')]];
        let rest = &self.tokens[self.at..];
        let length = forms.iter().find(|form| rest.starts_with(form)).map(|form| form.len());
        self.at += length.unwrap_or(0);
        length.is_some()
    }

    fn until(&mut self, close: char) -> Option<Value> {
        let value = self.sum()?;
        self.take(close).then_some(value)
    }

    fn braced(&mut self) -> Option<Value> {
        if self.take('{') { self.until('}') } else { None }
    }

    fn atom(&mut self) -> Option<Value> {
        let token = *self.tokens.get(self.at)?;
        self.at += 1;
        match token {
            Token::Number(text) => self.number(text),
            Token::Mark('(') => self.until(')'),
            Token::Mark('[') => self.until(']'),
            Token::Mark('{') if self.is_math_vision() => self.until('}'),
            Token::Mark('<') if self.is_math_vision() => self.until('>'),
            Token::Command("frac") => {
                let (p, q) = (self.braced()?, self.braced()?);
                self.quotient(p, q)
            }
            Token::Command(name) if self.is_math_vision() => self.named(name).map(Value::plain),
            // A root with an index is printed as a power, which needs no name.
            Token::Command("sqrt") if self.peek() == Some(Token::Mark('[')) => self.named("sqrt").map(Value::plain),
            // A letter as text is a letter.
            Token::Command("text" | "mathrm" | "mathit" | "mathbf" | "textbf" | "textit" | "textrm") => {
                let letter = if self.take('{') { self.atom()? } else { return None };
                self.take('}').then_some(letter)
            }
            // sympy prints a power of e as a call of `exp`, which has a value; e itself is a name.
            Token::Letter('e') if self.is_math_vision() && self.take('^') => {
                let exponent = self.exponent()?;
                Some(Value::plain(Float(libm::exp(exponent.number.to_f64()))))
            }
            Token::Letter(letter) => {
                self.binding.filter(|&(bound, _)| bound == letter).map(|(_, number)| Value::plain(number))
            }
            _ => None,
        }
    }

    fn number(&self, text: &str) -> Option<Value> {
        let digits = text.replace(',', "");
        let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
        let is_integral = fraction.bytes().all(|digit| digit == b'0');
        if !digits.contains('.') || (is_integral && self.is_math_vision()) {
            let whole = if whole.is_empty() { 0 } else { whole.parse().ok()? };
            return Value::ratio(whole, 1);
        }
        digits.trim_end_matches('.').parse().ok().map(|x| Value::plain(Float(x)))
    }

    /// Reads a root, a constant or a function.
    fn named(&mut self, name: &str) -> Option<Number> {
        match name {
            "pi" => Some(Float(std::f64::consts::PI)),
            "sqrt" => {
                let root = if self.take('[') { Some(self.until(']')?) } else { None };
                let radicand = self.braced()?.number;
                match root {
                    None => Some(radicand.to_f64()).filter(|&x| x >= 0.0).map(|x| Float(x.sqrt())),
                    Some(root) => radicand.power(Int(1).divide(root.number)?),
                }
            }
            "sin" | "cos" | "tan" => {
                let x = self.argument()?.to_f64();
                Some(Float(match name {
                    "sin" => libm::sin(x),
                    "cos" => libm::cos(x),
                    _ => libm::tan(x),
                }))
            }
            "log" => {
                let base = if !self.take('_') {
                    Int(10)
                } else if self.take('{') {
                    self.until('}')?.number
                } else {
                    self.atom()?.number
                };
                let (x, base) = (self.argument()?.to_f64(), base.to_f64());
                (x > 0.0 && base > 0.0 && base != 1.0).then(|| Float(libm::log(x) / libm::log(base)))
            }
            _ => None,
        }
    }

    /// Reads the argument of a function: a group, or the factors that follow.
    fn argument(&mut self) -> Option<Number> {
        let first = self.factor()?;
        if matches!(self.tokens.get(self.at.wrapping_sub(1)), Some(Token::Mark(')' | '}'))) {
            return Some(first.number);
        }
        self.juxtaposed(first).map(|value| value.number)
    }
}

fn factorial(n: Number) -> Option<Number> {
    let Int(n) = n else { return None };
    // 33! is the largest that fits; no answer needs more.
    (0..=33).contains(&n).then(|| Int((1..=n).product()))
}
