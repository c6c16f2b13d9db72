//! The rewriting of tokens that sympy does before it evaluates them: symbols, factorials, implicit multiplication,
//! implicit application, functions with a power.
//!
//! Source: `sympy_parser.py` of sympy 1.14, `standard_transformations` and `implicit_multiplication_application`. The steps
//! work on tokens and not on a tree, and their order shows (`x(x+1)` is a product, `ln^2(3)` a square), so they are
//! the same steps here.

use super::tokens::{Kind, Token};

/// How deep brackets may nest (Python's own limit).
const MAX_DEPTH: usize = 200;

/// What sympy and Python define among the names of at most two letters that get this far, and can be called.
const CALLABLE: [&str; 20] = [
    "all", "csc", "eye", "ff", "fft", "frac", "fu", "gff", "hn1", "hn2", "id", "im", "jn", "li", "ln", "ntt", "re",
    "rf", "sqrt", "yn",
];
/// The same for values.
const VALUES: [&str; 4] = ["nan", "oo", "pi", "zoo"];
/// Names that rewriting itself puts in, all of them callable.
const MADE: [&str; 7] = ["Symbol", "Function", "Integer", "Float", "Number", "factorial", "factorial2"];
/// Python's reserved words of at most two letters.
const RESERVED: [&str; 5] = ["as", "if", "in", "is", "or"];
/// Names of at most two letters that are Greek letters and so are not split into a product.
const GREEK: [&str; 4] = ["mu", "nu", "pi", "xi"];

/// Rewrites tokens; `None` for what sympy cannot read.
pub(super) fn rewritten<'a>(tokens: Vec<Token<'a>>) -> Option<Vec<Token<'a>>> {
    let tokens = with_symbols(&tokens)?;
    let tokens = with_numbers(&tokens);
    let tokens = with_factorials(&tokens)?;
    let tokens = with_split_symbols(&tokens)?;
    let tokens = implicit(tokens, 0, &with_multiplications)?;
    let tokens = implicit(tokens, 0, &with_applications)?;
    Some(with_function_powers(&tokens))
}

fn is_callable(token: &Token<'_>) -> bool {
    CALLABLE.contains(&token.text) || MADE.contains(&token.text)
}

fn wrapped<'a>(out: &mut Vec<Token<'a>>, function: &'a str, argument: Token<'a>) {
    out.extend([Token::name(function), Token::op("("), argument, Token::op(")")]);
}

/// `auto_symbol`: an unknown name becomes `Symbol('name')`, or `Function('name')` in front of a bracket.
fn with_symbols<'a>(tokens: &[Token<'a>]) -> Option<Vec<Token<'a>>> {
    let mut out = Vec::with_capacity(tokens.len() * 4);
    for (at, token) in tokens.iter().enumerate() {
        if token.kind != Kind::Name {
            out.push(*token);
            continue;
        }
        if RESERVED.contains(&token.text) {
            return None;
        }
        if CALLABLE.contains(&token.text) || VALUES.contains(&token.text) {
            out.push(*token);
            continue;
        }
        let called = tokens.get(at + 1).is_some_and(|next| next.is_op("("));
        let quoted = Token { kind: Kind::Quoted, text: token.text };
        wrapped(&mut out, if called { "Function" } else { "Symbol" }, quoted);
    }
    Some(out)
}

/// `auto_number`: `5` becomes `Integer(5)`, `2.5` becomes `Float('2.5')`, `5j` becomes `Integer(5)*I`.
fn with_numbers<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut out = Vec::with_capacity(tokens.len() + 8);
    for token in tokens {
        if token.kind != Kind::Number {
            out.push(*token);
            continue;
        }
        let imaginary = token.text.ends_with(['j', 'J']);
        let text = token.text.trim_end_matches(['j', 'J']);
        let hex = text.starts_with("0x") || text.starts_with("0X");
        let float = text.contains('.') || (!hex && text.contains(['e', 'E']));
        wrapped(&mut out, if float { "Float" } else { "Integer" }, Token { kind: Kind::Number, text });
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

/// Puts a call around the last operand.
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
            let from = if at > 0 && out[at - 1].kind == Kind::Name { at - 1 } else { at };
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
        if token.kind != Kind::Quoted || !is_splittable(token.text) {
            out.push(token);
            continue;
        }
        // The call and its bracket go, and so does the closing bracket behind.
        out.truncate(out.len() - 2);
        at += 1;
        let mut rest = token.text;
        while let Some(first) = rest.chars().next() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let length = digits.max(first.len_utf8());
            let (piece, after) = rest.split_at(length);
            if digits == 0 && first.is_numeric() {
                // Python calls it a digit and sympy then finds that it is no number.
                return None;
            }
            wrapped(&mut out, if digits > 0 { "Number" } else { "Symbol" }, Token { kind: Kind::Quoted, text: piece });
            rest = after;
        }
    }
    Some(out)
}

fn is_splittable(name: &str) -> bool {
    !name.contains('_') && !GREEK.contains(&name) && name.chars().nth(1).is_some()
}

/// A token, or a function with its bracketed arguments.
enum Item<'a> {
    Token(Token<'a>),
    Applied(Token<'a>, Vec<Token<'a>>),
}

impl Item<'_> {
    fn is_op(&self, text: &str) -> bool {
        matches!(self, Item::Token(token) if token.is_op(text))
    }

    fn is_name(&self) -> bool {
        matches!(self, Item::Token(token) if token.kind == Kind::Name)
    }

    fn is_callable_name(&self) -> bool {
        matches!(self, Item::Token(token) if token.kind == Kind::Name && is_callable(token))
    }
}

type Step = dyn for<'a> Fn(Vec<Item<'a>>) -> Vec<Item<'a>>;

/// Does a step inside every bracket, from the outermost in, then on the whole.
fn implicit<'a>(tokens: Vec<Token<'a>>, depth: usize, step: &Step) -> Option<Vec<Token<'a>>> {
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
            function = (token.kind == Kind::Name).then_some(token);
            items.push(Item::Token(token));
            at += 1;
            continue;
        }
        let end = closing(&tokens, at)?;
        // A single token in brackets is left as it is by every step.
        let inner = if end - at <= 2 {
            tokens[at + 1..end].to_vec()
        } else {
            implicit(tokens[at + 1..end].to_vec(), depth + 1, step)?
        };
        let mut group = Vec::with_capacity(inner.len() + 2);
        group.push(token);
        group.extend(inner);
        group.push(tokens[end]);
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

/// The bracket that closes the one at `open`.
fn closing(tokens: &[Token<'_>], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if token.is_op("(") {
            depth += 1;
        } else if token.is_op(")") {
            depth -= 1;
            if depth == 0 {
                return Some(at);
            }
        }
    }
    None
}

/// `_implicit_multiplication`: a `*` between operands that stand side by side.
fn with_multiplications(items: Vec<Item<'_>>) -> Vec<Item<'_>> {
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
            Item::Token(token) => token.kind == Kind::Name && !is_callable(token) && operand,
        };
        out.push(item);
        if multiply {
            out.push(Item::Token(Token::op("*")));
        }
    }
    out
}

/// `_implicit_application`: brackets around the argument of a function that has none.
fn with_applications(items: Vec<Item<'_>>) -> Vec<Item<'_>> {
    let mut out = Vec::with_capacity(items.len() + 4);
    let (mut open, mut skip, mut after_power) = (0usize, false, false);
    let mut items = items.into_iter().peekable();
    while let Some(item) = items.next() {
        let Some(next) = items.peek() else {
            out.push(item);
            break;
        };
        let next_is_op = matches!(next, Item::Token(token) if matches!(token.kind, Kind::Op | Kind::End));
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

/// `function_exponentiation`: `ln**2(3)` becomes `ln(3)**2`.
fn with_function_powers<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut out = Vec::with_capacity(tokens.len());
    let mut power: Vec<Token<'a>> = Vec::new();
    let mut consuming = false;
    let mut level = 0i32;
    for pair in tokens.windows(2) {
        let (token, next) = (pair[0], pair[1]);
        if token.kind == Kind::Name && next.is_op("**") {
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

#[cfg(test)]
mod tests {
    use super::super::tokens::tokens;
    use super::rewritten;

    fn text(source: &str) -> Option<String> {
        Some(rewritten(tokens(source)?)?.iter().map(|token| token.text).collect())
    }

    #[test]
    fn products_and_calls_are_made_as_sympy_does() {
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
