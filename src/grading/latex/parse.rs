//! LaTeX source to nodes, the way pylatexenc's tolerant walker reads it.
//!
//! A closing brace without an opening one is dropped, an unclosed group ends with the source, a macro whose arguments
//! are missing has none. `%` and `$` never reach this point: the second normal form drops them before.

use super::MAX_DEPTH;
use super::macros::{environment_of, macro_of};
use crate::grading::characters::{is_letter, is_space, is_word};

/// How many tokens may be read beyond a few for each character. Arguments that turn out to be missing are read again as
/// text, once more at each level, so `\frac{\frac{\frac{..` would double the work with every `\frac`.
const MAX_REREADING: usize = 8_000;

/// A piece of parsed LaTeX.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Characters that stand for themselves.
    Chars(String),
    /// `{..}` or `[..]`.
    Group(Vec<Node>),
    /// A macro.
    Macro(MacroNode),
    /// `\begin{..} .. \end{..}`.
    Environment { name: String, content: Vec<Node> },
    /// `&`, `~` and the ligatures.
    Special(&'static str),
    /// `\( .. \)` or `\[ .. \]`.
    Math { display: bool, content: Vec<Node> },
}

/// A macro with what it read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MacroNode {
    pub(super) name: String,
    /// One entry an argument; an optional one that is absent is `None`. Empty where the arguments could not be read.
    pub(super) arguments: Vec<Option<Node>>,
    /// The white space behind a macro of letters.
    pub(super) space_after: String,
    /// It has no arguments at all, so space behind it may matter.
    pub(super) bare: bool,
}

/// Parses a whole source; `None` when it nests deeper, or hangs together worse, than any answer.
pub(super) fn parse(source: &str) -> Option<Vec<Node>> {
    let source: Vec<char> = source.chars().collect();
    let work = MAX_REREADING + 8 * source.len();
    let mut walker = Walker { source, depth: 0, work, given_up: false };
    let (nodes, _) = walker.nodes(0, &Until::End);
    (!walker.given_up).then_some(nodes)
}

/// What ends a list of nodes.
#[derive(Debug, Clone, PartialEq)]
enum Until {
    End,
    Brace,
    Bracket,
    Environment(String),
    Math(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Char(String),
    Macro {
        name: String,
        space_after: String,
    },
    Begin(String),
    Stop(String),
    Open(char),
    Close(char),
    /// `\(`, `\)`, `\[` or `\]`.
    MathMark(&'static str),
    Special(&'static str),
}

struct Token {
    kind: Kind,
    /// Where it starts, behind the white space.
    at: usize,
    /// Where what follows starts.
    end: usize,
    /// The white space in front of it.
    space: String,
}

struct Walker {
    source: Vec<char>,
    depth: usize,
    /// How many more nodes may be begun.
    work: usize,
    given_up: bool,
}

/// The end of the source was reached; the white space in front of it.
struct EndOfSource(String);

/// Longest first, so that the first match is the longest.
const SPECIALS: [&str; 8] = ["---", "``", "''", "--", "!`", "?`", "&", "~"];

impl Walker {
    /// The next token. With `brackets`, `[` and `]` are braces; with `environments`, `\begin{..}` is one token.
    fn token(&self, from: usize, brackets: bool, environments: bool) -> Result<Token, EndOfSource> {
        let source = &self.source;
        let mut at = from;
        let mut space = String::new();
        while at < source.len() && is_space(source[at]) {
            space.push(source[at]);
            at += 1;
            if space.ends_with("\n\n") {
                space.truncate(space.len() - 2);
                return Ok(Token { kind: Kind::Char("\n\n".to_owned()), at: at - 2, end: at, space });
            }
        }
        let Some(&first) = source.get(at) else { return Err(EndOfSource(space)) };
        let single = |kind| Token { kind, at, end: at + 1, space: space.clone() };
        let token = match first {
            '\\' => return self.escape(at, space, environments),
            '{' => single(Kind::Open('{')),
            '}' => single(Kind::Close('}')),
            '[' if brackets => single(Kind::Open('[')),
            ']' if brackets => single(Kind::Close(']')),
            _ => match SPECIALS.iter().find(|special| self.has(at, special)) {
                Some(special) => Token { kind: Kind::Special(special), at, end: at + special.chars().count(), space },
                None => single(Kind::Char(first.to_string())),
            },
        };
        Ok(token)
    }

    fn has(&self, at: usize, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.source.get(at + i) == Some(&c))
    }

    /// A token that starts with a backslash.
    fn escape(&self, at: usize, space: String, environments: bool) -> Result<Token, EndOfSource> {
        let source = &self.source;
        let Some(&first) = source.get(at + 1) else { return Err(EndOfSource(String::new())) };
        let letters = source[at + 1..].iter().take_while(|&&c| is_letter(c)).count();
        let mut end = at + 1 + letters.max(1);
        let name: String = source[at + 1..end].iter().collect();
        let mark = match first {
            '(' => Some(r"\("),
            ')' => Some(r"\)"),
            '[' => Some(r"\["),
            ']' => Some(r"\]"),
            _ => None,
        };
        if let Some(mark) = mark {
            return Ok(Token { kind: Kind::MathMark(mark), at, end, space });
        }
        if environments && (name == "begin" || name == "end") {
            let kind = match self.environment_name(end) {
                None => Kind::Char(format!("\\{name}")),
                Some((environment, after)) => {
                    end = after;
                    if name == "begin" { Kind::Begin(environment) } else { Kind::Stop(environment) }
                }
            };
            return Ok(Token { kind, at, end, space });
        }
        let mut space_after = String::new();
        while letters > 0 && end < source.len() && is_space(source[end]) {
            space_after.push(source[end]);
            end += 1;
            if space_after.ends_with("\n\n") {
                space_after.truncate(space_after.len() - 2);
                end -= 2;
                break;
            }
        }
        Ok(Token { kind: Kind::Macro { name, space_after }, at, end, space })
    }

    /// `\s*\{([\w* ._-]+)\}` behind `\begin` or `\end`.
    fn environment_name(&self, from: usize) -> Option<(String, usize)> {
        let rest = &self.source[from..];
        let open = rest.iter().take_while(|&&c| is_space(c)).count();
        if rest.get(open) != Some(&'{') {
            return None;
        }
        let inner = &rest[open + 1..];
        let length = inner.iter().take_while(|&&c| is_word(c) || matches!(c, '*' | ' ' | '.' | '-')).count();
        if length == 0 || inner.get(length) != Some(&'}') {
            return None;
        }
        Some((inner[..length].iter().collect(), from + open + length + 2))
    }

    /// Nodes up to what ends them, and where what follows starts.
    fn nodes(&mut self, from: usize, until: &Until) -> (Vec<Node>, usize) {
        let mut nodes = Vec::new();
        let mut chars = String::new();
        let mut at = from;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.given_up = true;
        }
        while !self.given_up {
            match self.work.checked_sub(1) {
                Some(left) => self.work = left,
                None => self.given_up = true,
            }
            let token = match self.token(at, *until == Until::Bracket, true) {
                Ok(token) => token,
                Err(EndOfSource(space)) => {
                    chars.push_str(&space);
                    at = self.source.len();
                    break;
                }
            };
            at = token.end;
            chars.push_str(&token.space);
            if let Kind::Char(text) = &token.kind {
                chars.push_str(text);
                continue;
            }
            if !chars.is_empty() {
                nodes.push(Node::Chars(std::mem::take(&mut chars)));
            }
            if ends(until, &token.kind) {
                break;
            }
            if let Some(node) = self.node(token, &mut at) {
                nodes.push(node);
            }
        }
        if !chars.is_empty() {
            nodes.push(Node::Chars(chars));
        }
        self.depth -= 1;
        (nodes, at)
    }

    /// The node that a token starts; `None` for a stray closing mark, which is dropped.
    fn node(&mut self, token: Token, at: &mut usize) -> Option<Node> {
        match token.kind {
            Kind::Open(brace) => {
                let until = if brace == '[' { Until::Bracket } else { Until::Brace };
                let (content, end) = self.nodes(token.end, &until);
                *at = end;
                Some(Node::Group(content))
            }
            Kind::Begin(name) => {
                let environment = environment_of(&name);
                let start = self.arguments(environment.arguments, token.end, false).map_or(token.end, |(_, end)| end);
                let (content, end) = self.nodes(start, &Until::Environment(name.clone()));
                *at = end;
                Some(Node::Environment { name, content })
            }
            Kind::MathMark(open @ (r"\(" | r"\[")) => {
                let (close, display) = if open == r"\(" { (r"\)", false) } else { (r"\]", true) };
                let (content, end) = self.nodes(token.end, &Until::Math(close));
                *at = end;
                Some(Node::Math { display, content })
            }
            Kind::Macro { name, space_after } => {
                let spec = macro_of(&name).arguments;
                let read = self.arguments(spec, token.end, name == "\\");
                let (arguments, end) = read.unwrap_or((Vec::new(), token.end));
                *at = end;
                let bare = is_bare(spec, &arguments);
                Some(Node::Macro(MacroNode { name, arguments, space_after, bare }))
            }
            Kind::Special(special) => Some(Node::Special(special)),
            Kind::Close(_) | Kind::Stop(_) | Kind::MathMark(_) | Kind::Char(_) => None,
        }
    }

    /// The arguments of a macro and where they end; `None` when the source ends before they do.
    fn arguments(&mut self, spec: &str, from: usize, tight: bool) -> Option<(Vec<Option<Node>>, usize)> {
        let mut arguments = Vec::with_capacity(spec.len());
        let mut at = from;
        for kind in spec.chars() {
            match kind {
                '{' => {
                    let (node, end) = self.expression(at)?;
                    at = end;
                    arguments.push(Some(node));
                }
                '[' => {
                    let spaced = tight && self.source.get(at).is_some_and(|&c| is_space(c));
                    let token = if spaced { None } else { self.token(at, true, false).ok() };
                    match token {
                        Some(Token { kind: Kind::Open('['), end, .. }) => {
                            let (content, end) = self.nodes(end, &Until::Bracket);
                            at = end;
                            arguments.push(Some(Node::Group(content)));
                        }
                        _ => arguments.push(None),
                    }
                }
                _ => match self.token(at, false, true).ok()? {
                    Token { kind: Kind::Char(text), at: star, .. } if text == "*" => {
                        at = star + 1;
                        arguments.push(Some(Node::Chars(text)));
                    }
                    _ => arguments.push(None),
                },
            }
        }
        Some((arguments, at))
    }

    /// One argument: a group, a macro without its own arguments, or a character. `None` at the end of the source.
    fn expression(&mut self, from: usize) -> Option<(Node, usize)> {
        let token = self.token(from, false, false).ok()?;
        let empty = (Node::Chars(String::new()), token.at);
        let lone = |name: String, space_after| MacroNode { name, arguments: Vec::new(), space_after, bare: true };
        Some(match token.kind {
            Kind::Macro { name, .. } if name == "end" => empty,
            Kind::Macro { name, space_after } => (Node::Macro(lone(name, space_after)), token.end),
            Kind::MathMark(mark) => (Node::Macro(lone(mark.to_owned(), String::new())), token.end),
            Kind::Special(special) => (Node::Special(special), token.end),
            Kind::Open(_) => {
                let (content, end) = self.nodes(token.end, &Until::Brace);
                (Node::Group(content), end)
            }
            Kind::Char(text) => (Node::Chars(text), token.end),
            Kind::Close(_) | Kind::Begin(_) | Kind::Stop(_) => empty,
        })
    }
}

fn ends(until: &Until, kind: &Kind) -> bool {
    match (until, kind) {
        (Until::Brace, Kind::Close('}')) | (Until::Bracket, Kind::Close(']')) => true,
        (Until::Environment(name), Kind::Stop(stop)) => name == stop,
        (Until::Math(close), Kind::MathMark(mark)) => close == mark,
        _ => false,
    }
}

/// Whether the walker's older interface sees neither an optional nor a mandatory argument on a macro.
fn is_bare(spec: &str, arguments: &[Option<Node>]) -> bool {
    let stars = spec.chars().take_while(|&c| c == '*').count();
    match arguments.get(stars..) {
        // One optional argument in front, none behind: bare while it is absent.
        Some([optional]) if spec[stars..] == *"[" => optional.is_none(),
        _ => arguments.is_empty(),
    }
}
