//! Rewriting of tokens as sympy does before evaluation: symbols, numbers and factorials here,
//! inferred tokens in [`super::implicit`].
//!
//! Source: `sympy_parser.py` of sympy 1.14, `standard_transformations` and
//! `implicit_multiplication_application`. The steps work on tokens rather than a tree, and their
//! order affects the result (`x(x+1)` is a product, `ln^2(3)` a square), so they are the same steps
//! here.

use super::implicit::{apply_in_brackets, with_applications, with_function_powers, with_multiplications};
use super::names::{CALLABLE, GREEK, RESERVED, VALUES};
use super::tokens::{Token, TokenKind};

/// Rewrites tokens; `None` for a text that sympy cannot parse.
pub(super) fn rewrite<'a>(tokens: Vec<Token<'a>>) -> Option<Vec<Token<'a>>> {
    let tokens = with_symbols(&tokens)?;
    let tokens = with_numbers(&tokens);
    let tokens = with_factorials(&tokens)?;
    let tokens = with_split_symbols(&tokens)?;
    let tokens = apply_in_brackets(tokens, 0, &with_multiplications)?;
    let tokens = apply_in_brackets(tokens, 0, &with_applications)?;
    Some(with_function_powers(&tokens))
}

fn push_call<'a>(out: &mut Vec<Token<'a>>, function: &'a str, argument: Token<'a>) {
    out.extend([Token::name(function), Token::op("("), argument, Token::op(")")]);
}

/// `auto_symbol`: an unknown name becomes `Symbol('name')`, or `Function('name')` before a bracket.
fn with_symbols<'a>(tokens: &[Token<'a>]) -> Option<Vec<Token<'a>>> {
    let mut out = Vec::with_capacity(tokens.len() * 4);
    for (at, token) in tokens.iter().enumerate() {
        if token.kind != TokenKind::Name || CALLABLE.contains(&token.text) || VALUES.contains(&token.text) {
            out.push(*token);
            continue;
        }
        if RESERVED.contains(&token.text) {
            return None;
        }
        let called = tokens.get(at + 1).is_some_and(|next| next.is_op("("));
        let quoted = Token { kind: TokenKind::Quoted, text: token.text };
        push_call(&mut out, if called { "Function" } else { "Symbol" }, quoted);
    }
    Some(out)
}

/// `auto_number`: `5` becomes `Integer(5)`, `2.5` becomes `Float('2.5')`, `5j` becomes
/// `Integer(5)*I`.
fn with_numbers<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut out = Vec::with_capacity(tokens.len() + 8);
    for token in tokens {
        if token.kind != TokenKind::Number {
            out.push(*token);
            continue;
        }
        let imaginary = token.text.ends_with(['j', 'J']);
        let text = token.text.trim_end_matches(['j', 'J']);
        let hex = text.starts_with("0x") || text.starts_with("0X");
        let float = text.contains('.') || (!hex && text.contains(['e', 'E']));
        push_call(&mut out, if float { "Float" } else { "Integer" }, Token { kind: TokenKind::Number, text });
        if imaginary {
            out.extend([Token::op("*"), Token::name("I")]);
        }
    }
    out
}

/// `factorial_notation`: `5!` becomes `factorial(5)`, `5!!` becomes `factorial2(5)`.
fn with_factorials<'a>(tokens: &[Token<'a>]) -> Option<Vec<Token<'a>>> {
    if !tokens.iter().any(|token| token.is_op("!")) {
        return Some(tokens.to_vec());
    }
    let mut out = Vec::with_capacity(tokens.len() + 8);
    let mut marks = 0;
    for token in tokens {
        if token.is_op("!") {
            marks += 1;
            continue;
        }
        match marks {
            0 => {}
            1 => out = with_factorial(out, "factorial")?,
            2 => out = with_factorial(out, "factorial2")?,
            _ => return None,
        }
        marks = 0;
        out.push(*token);
    }
    Some(out)
}

/// Wraps a call around the last operand.
fn with_factorial<'a>(mut out: Vec<Token<'a>>, name: &'a str) -> Option<Vec<Token<'a>>> {
    if out.last().is_none_or(|last| last.text == "(") {
        return None;
    }
    let mut depth = 0i32;
    for at in (0..out.len()).rev() {
        match out[at].text {
            ")" => depth += 1,
            "(" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let from = if at > 0 && out[at - 1].kind == TokenKind::Name { at - 1 } else { at };
            out.splice(from..from, [Token::name(name), Token::op("(")]);
            out.push(Token::op(")"));
            break;
        }
    }
    Some(out)
}

/// `split_symbols`: `Symbol('xy2')` becomes `Symbol('x')Symbol('y')Number('2')`.
fn with_split_symbols<'a>(tokens: &[Token<'a>]) -> Option<Vec<Token<'a>>> {
    let mut out: Vec<Token<'a>> = Vec::with_capacity(tokens.len() * 2);
    let mut at = 0;
    while at < tokens.len() {
        let token = tokens[at];
        at += 1;
        if token.kind != TokenKind::Quoted || !is_splittable(token.text) {
            out.push(token);
            continue;
        }
        // The call and its brackets are removed.
        out.truncate(out.len() - 2);
        at += 1;
        let mut rest = token.text;
        while let Some(first) = rest.chars().next() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let length = digits.max(first.len_utf8());
            let (piece, after) = rest.split_at(length);
            if digits == 0 && first.is_numeric() {
                // Python calls it a digit, but sympy then fails to parse it as a number.
                return None;
            }
            push_call(
                &mut out,
                if digits > 0 { "Number" } else { "Symbol" },
                Token { kind: TokenKind::Quoted, text: piece },
            );
            rest = after;
        }
    }
    Some(out)
}

fn is_splittable(name: &str) -> bool {
    !name.contains('_') && !GREEK.contains(&name) && name.chars().nth(1).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokens;
    use super::rewrite;

    fn text(source: &str) -> Option<String> {
        Some(rewrite(tokens(source)?)?.iter().map(|token| token.text).collect())
    }

    #[test]
    fn products_and_calls_are_inserted_as_in_sympy() {
        let cases = [
            ("2x", "Integer(2)*Symbol(x)"),
            ("xy2", "Symbol(x)*Symbol(y)*Number(2)"),
            ("x(x+1)", "Symbol(x)*(Symbol(x)+Integer(1))"),
            ("2sqrt(3)pi", "Integer(2)*sqrt(Integer(3))*pi"),
            ("xsqrt(3)", "Symbol(x)*Symbol(s)*Symbol(q)*Symbol(r)*Symbol(t)*(Integer(3))"),
            ("3x!", "Integer(3)*factorial(Symbol(x))"),
            ("(2+3)!", "factorial((Integer(2)+Integer(3)))"),
            ("5!!", "factorial2(Integer(5))"),
            ("ln**2(3)", "ln(Integer(3))**Integer(2)"),
            ("3j", "Integer(3)*I"),
            ("(1)(2)", "(Integer(1))*(Integer(2))"),
            ("mu(x)", "Symbol(mu)*(Symbol(x))"),
        ];
        for (source, made) in cases {
            assert_eq!(text(source).as_deref(), Some(made), "{source}");
        }
        for source in ["!", "5!!!", "(1", "1)", "x²"] {
            assert_eq!(text(source), None, "{source}");
        }
    }
}
