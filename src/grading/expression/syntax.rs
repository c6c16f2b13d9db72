//! Parser from rewrite tokens to a tree, by Python's expression grammar.

use dashu_int::{IBig, UBig};

use super::rational::Rational;
use super::tokens::{Token, TokenKind};

/// Deepest recursion of the grammar: brackets, signs and towers of powers. Python has a similar
/// limit.
const MAX_DEPTH: usize = 250;
/// Largest power of ten in a decimal that is still accepted as a number.
const MAX_DECIMAL_EXPONENT: i64 = 2000;

/// Index of a node in [`Tree::nodes`]. Operands come before their users.
pub(super) type ExprId = usize;

/// Builds a node of two operands.
type BinaryNode = fn(ExprId, ExprId) -> ExprNode;

/// A function of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    SquareRoot,
    Logarithm,
    Factorial,
    DoubleFactorial,
    Fraction,
    Cosecant,
}

/// A node of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ExprNode {
    Number(Rational),
    /// A number written with a point or an exponent, and its number of digits.
    Decimal(Rational, u32),
    /// Index of a symbol in [`Tree::symbols`].
    Symbol(usize),
    Pi,
    Imaginary,
    Negative(ExprId),
    Sum(ExprId, ExprId),
    Difference(ExprId, ExprId),
    Product(ExprId, ExprId),
    Quotient(ExprId, ExprId),
    Power(ExprId, ExprId),
    Call(Function, ExprId),
}

/// An expression: its nodes in evaluation order, of which the last one is the root.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Tree {
    pub(super) nodes: Vec<ExprNode>,
    pub(super) symbols: Vec<String>,
}

/// Parses tokens; `None` for a text that is not an expression, or whose value is not a number
/// (tuples, functions without arguments, infinities).
pub(super) fn parse(tokens: &[Token<'_>]) -> Option<Tree> {
    let tokens: Vec<Token<'_>> = tokens.iter().filter(|token| token.kind != TokenKind::Blank).copied().collect();
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0, tree: Tree::default() };
    parser.sum()?;
    (parser.peek()?.kind == TokenKind::End).then_some(parser.tree)
}

struct Parser<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
    depth: usize,
    tree: Tree,
}

impl<'a> Parser<'_, 'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    /// Consumes the next token if it is this operator; returns whether it was.
    fn eat(&mut self, op: &str) -> bool {
        let is_op = self.peek().is_some_and(|token| token.is_op(op));
        self.at += usize::from(is_op);
        is_op
    }

    fn push(&mut self, node: ExprNode) -> ExprId {
        self.tree.nodes.push(node);
        self.tree.nodes.len() - 1
    }

    fn sum(&mut self) -> Option<ExprId> {
        self.chain(Self::product, [("+", ExprNode::Sum), ("-", ExprNode::Difference)])
    }

    fn product(&mut self) -> Option<ExprId> {
        self.chain(Self::signed, [("*", ExprNode::Product), ("/", ExprNode::Quotient)])
    }

    /// Parses operands joined by operators of one precedence, from the left.
    fn chain(
        &mut self,
        operand: fn(&mut Self) -> Option<ExprId>,
        operators: [(&str, BinaryNode); 2],
    ) -> Option<ExprId> {
        let mut left = operand(self)?;
        while let Some((_, node)) = operators.iter().find(|(op, _)| self.eat(op)) {
            let right = operand(self)?;
            left = self.push(node(left, right));
        }
        Some(left)
    }

    /// Parses an operand with signs. A sign binds less tightly than a power to its right: `-2**2`
    /// is `-(2**2)`.
    fn signed(&mut self) -> Option<ExprId> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let value = if self.eat("-") {
            let value = self.signed()?;
            self.push(ExprNode::Negative(value))
        } else if self.eat("+") {
            self.signed()?
        } else {
            let base = self.atom()?;
            if self.eat("**") {
                let exponent = self.signed()?;
                self.push(ExprNode::Power(base, exponent))
            } else {
                base
            }
        };
        self.depth -= 1;
        Some(value)
    }

    fn atom(&mut self) -> Option<ExprId> {
        let token = self.peek()?;
        self.at += 1;
        if token.is_op("(") {
            let value = self.sum()?;
            return self.eat(")").then_some(value);
        }
        if token.kind != TokenKind::Name {
            return None;
        }
        let function = match token.text {
            "pi" => return Some(self.push(ExprNode::Pi)),
            "I" => return Some(self.push(ExprNode::Imaginary)),
            "Symbol" | "Integer" | "Float" | "Number" => return self.literal(token.text),
            "sqrt" => Function::SquareRoot,
            "ln" => Function::Logarithm,
            "factorial" => Function::Factorial,
            "factorial2" => Function::DoubleFactorial,
            "frac" => Function::Fraction,
            "csc" => Function::Cosecant,
            _ => return None,
        };
        if !self.eat("(") {
            return None;
        }
        let argument = self.sum()?;
        // Python allows a comma after the last argument.
        let _ = self.eat(",");
        self.eat(")").then(|| self.push(ExprNode::Call(function, argument)))
    }

    /// Parses the argument of a call inserted by rewriting: one token in brackets.
    fn literal(&mut self, made: &str) -> Option<ExprId> {
        if !self.eat("(") {
            return None;
        }
        let token = self.peek()?;
        self.at += 1;
        if !self.eat(")") {
            return None;
        }
        let node = match (made, token.kind) {
            ("Symbol", TokenKind::Quoted) => ExprNode::Symbol(self.symbol(token.text)),
            ("Integer", TokenKind::Number) | ("Number", TokenKind::Quoted) => {
                ExprNode::Number(parse_integer(token.text)?)
            }
            ("Float", TokenKind::Number) => parse_decimal(token.text)?,
            _ => return None,
        };
        Some(self.push(node))
    }

    fn symbol(&mut self, name: &str) -> usize {
        let symbols = &mut self.tree.symbols;
        symbols.iter().position(|known| known == name).unwrap_or_else(|| {
            symbols.push(name.to_owned());
            symbols.len() - 1
        })
    }
}

/// Parses a Python integer: decimal, `0x`, `0b` or `0o`, with underscores.
fn parse_integer(text: &str) -> Option<Rational> {
    let text: String = text.chars().filter(|&c| c != '_').collect();
    let (digits, radix) = match text.get(..2) {
        Some("0x" | "0X") => (&text[2..], 16),
        Some("0b" | "0B") => (&text[2..], 2),
        Some("0o" | "0O") => (&text[2..], 8),
        _ => (text.as_str(), 10),
    };
    Some(IBig::from_str_radix(digits, radix).ok()?.into())
}

/// Parses a decimal as the exact number it denotes: `2.50` is 5/2.
fn parse_decimal(text: &str) -> Option<ExprNode> {
    let text: String = text.chars().filter(|&c| c != '_').collect();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text.as_str(), 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{part}");
    let exponent = exponent.checked_sub(i64::try_from(part.len()).ok()?)?;
    if exponent.abs() > MAX_DECIMAL_EXPONENT {
        return None;
    }
    let value = IBig::from_str_radix(if digits.is_empty() { "0" } else { &digits }, 10).ok()?;
    let power = UBig::from(10u8).pow(usize::try_from(exponent.unsigned_abs()).ok()?);
    let written = u32::try_from(digits.trim_start_matches('0').len()).ok()?;
    let value = if exponent < 0 { Rational::from_parts(value, power) } else { (value * power).into() };
    Some(ExprNode::Decimal(value, written))
}

#[cfg(test)]
mod tests {
    use super::super::{rewrite::rewrite, tokens::tokens};
    use super::{ExprNode, parse};

    fn read(source: &str) -> Option<super::Tree> {
        parse(&rewrite(tokens(source)?)?)
    }

    #[test]
    fn python_precedence_holds() {
        let tree = read("-2**2").unwrap();
        assert!(matches!(tree.nodes.last(), Some(ExprNode::Negative(_))));
        let tree = read("2**-1/3").unwrap();
        assert!(matches!(tree.nodes.last(), Some(ExprNode::Quotient(..))));
        assert_eq!(read("xy+x").unwrap().symbols, ["x", "y"]);
    }

    #[test]
    fn a_text_that_is_not_a_number_is_refused() {
        for source in ["", "1,2", "ln", "oo", "()", "2+", "(1", "1)", "re(5)", "1e99999999"] {
            assert_eq!(read(source), None, "{source}");
        }
        assert_eq!(read(&("(".repeat(300) + "1" + &")".repeat(300))), None);
        assert_eq!(read(&("-".repeat(3000) + "1")), None);
    }
}
