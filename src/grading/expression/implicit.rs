//! Tokens that sympy inserts: multiplications, brackets of function calls, powers of functions.
//!
//! Source: `implicit_multiplication`, `implicit_application` and `function_exponentiation` of sympy
//! 1.14's `sympy_parser.py`.

use super::names::is_callable;
use super::tokens::{Token, TokenKind};

/// Deepest nesting of brackets (Python's own limit).
const MAX_DEPTH: usize = 200;

/// A token, or a function with its bracketed arguments.
pub(super) enum Item<'a> {
    Token(Token<'a>),
    Applied(Token<'a>, Vec<Token<'a>>),
}

impl Item<'_> {
    fn is_op(&self, text: &str) -> bool {
        matches!(self, Item::Token(token) if token.is_op(text))
    }

    fn is_name(&self) -> bool {
        matches!(self, Item::Token(token) if token.kind == TokenKind::Name)
    }

    fn is_callable_name(&self) -> bool {
        matches!(self, Item::Token(token) if token.kind == TokenKind::Name && is_callable(token))
    }
}

pub(super) type RewriteStep = dyn for<'a> Fn(Vec<Item<'a>>) -> Vec<Item<'a>>;

/// Applies a step inside every bracket and then to the whole.
pub(super) fn apply_in_brackets<'a>(
    tokens: Vec<Token<'a>>,
    depth: usize,
    step: &RewriteStep,
) -> Option<Vec<Token<'a>>> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut items: Vec<Item<'a>> = Vec::with_capacity(tokens.len());
    let mut function: Option<Token<'a>> = None;
    let mut at = 0;
    while at < tokens.len() {
        let token = tokens[at];
        if token.is_op(")") {
            return None;
        }
        if !token.is_op("(") {
            function = (token.kind == TokenKind::Name).then_some(token);
            items.push(Item::Token(token));
            at += 1;
            continue;
        }
        let end = find_closing_bracket(&tokens, at)?;
        // No step changes a single token in brackets.
        let inner = if end - at <= 2 {
            tokens[at + 1..end].to_vec()
        } else {
            apply_in_brackets(tokens[at + 1..end].to_vec(), depth + 1, step)?
        };
        let group = [&[token], &inner[..], &[tokens[end]]].concat();
        match function.take().filter(is_callable) {
            Some(function) => {
                items.pop();
                items.push(Item::Applied(function, group));
            }
            None => items.extend(group.into_iter().map(Item::Token)),
        }
        at = end + 1;
    }
    let mut out = Vec::with_capacity(tokens.len() + 4);
    for item in step(items) {
        match item {
            Item::Token(token) => out.push(token),
            Item::Applied(function, group) => {
                out.push(function);
                out.extend(group);
            }
        }
    }
    Some(out)
}

/// Returns the position of the bracket that closes the one at `open`.
fn find_closing_bracket(tokens: &[Token<'_>], open: usize) -> Option<usize> {
    let mut depth = 0;
    let closes = |token: &Token<'_>| {
        depth += i32::from(token.is_op("(")) - i32::from(token.is_op(")"));
        depth == 0
    };
    tokens[open..].iter().position(closes).map(|length| open + length)
}

/// `_implicit_multiplication`: inserts `*` between adjacent operands.
pub(super) fn with_multiplications(items: Vec<Item<'_>>) -> Vec<Item<'_>> {
    let mut out = Vec::with_capacity(items.len() * 2);
    let mut items = items.into_iter().peekable();
    while let Some(mut item) = items.next() {
        let Some(next) = items.peek() else {
            out.push(item);
            break;
        };
        let operand = matches!(next, Item::Applied(..)) || next.is_op("(") || next.is_name();
        let multiply = match &mut item {
            Item::Applied(function, _) => {
                if next.is_op("(") && function.text == "Function" {
                    *function = Token::name("Symbol");
                }
                operand
            }
            Item::Token(token) if token.is_op(")") => operand,
            Item::Token(token) => token.kind == TokenKind::Name && !is_callable(token) && operand,
        };
        out.push(item);
        if multiply {
            out.push(Item::Token(Token::op("*")));
        }
    }
    out
}

/// `_implicit_application`: inserts brackets around a function's argument that has none.
pub(super) fn with_applications(items: Vec<Item<'_>>) -> Vec<Item<'_>> {
    let mut out = Vec::with_capacity(items.len() + 4);
    let (mut open, mut skip, mut after_power) = (0usize, false, false);
    let mut items = items.into_iter().peekable();
    while let Some(item) = items.next() {
        let Some(next) = items.peek() else {
            out.push(item);
            break;
        };
        let next_is_op = matches!(next, Item::Token(token) if matches!(token.kind, TokenKind::Op | TokenKind::End));
        let (name, callable) = (item.is_name(), item.is_callable_name());
        let ends_power = matches!(item, Item::Applied(..)) || item.is_op("*");
        out.push(item);
        if name && !next_is_op {
            if callable {
                out.push(Item::Token(Token::op("(")));
                open += 1;
            }
        } else if name && next.is_op("**") {
            after_power |= callable;
        } else if after_power {
            if ends_power && !next.is_op("*") {
                if !next.is_op("(") {
                    out.push(Item::Token(Token::op("(")));
                    open += 1;
                }
                after_power = false;
            }
        } else if open > 0 {
            if next.is_op("**") || next.is_op("*") {
                skip = true;
            } else if skip {
                skip = false;
            } else {
                out.push(Item::Token(Token::op(")")));
                open -= 1;
            }
        }
    }
    out.extend((0..open).map(|_| Item::Token(Token::op(")"))));
    out
}

/// `function_exponentiation`: rewrites `ln**2(3)` to `ln(3)**2`.
pub(super) fn with_function_powers<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut out = Vec::with_capacity(tokens.len());
    let mut power: Vec<Token<'a>> = Vec::new();
    let mut consuming = false;
    let mut level = 0i32;
    for pair in tokens.windows(2) {
        let (token, next) = (pair[0], pair[1]);
        if token.kind == TokenKind::Name && next.is_op("**") {
            consuming |= is_callable(&token);
        } else if consuming {
            power.push(if token.text == "Function" { Token::name("Symbol") } else { token });
            if token.is_op(")") && next.is_op("(") {
                consuming = false;
            } else if token.is_op("*") && next.is_op("(") {
                consuming = false;
                power.pop();
            }
            continue;
        } else if !power.is_empty() {
            match token.text {
                "(" => level += 1,
                ")" => level -= 1,
                _ => {}
            }
            if level == 0 {
                out.push(token);
                out.append(&mut power);
                continue;
            }
        }
        out.push(token);
    }
    out.extend(tokens.last());
    out.append(&mut power);
    out
}
