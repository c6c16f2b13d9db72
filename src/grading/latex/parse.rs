//! Parser from LaTeX source to nodes, as pylatexenc's tolerant walker.
//!
//! A closing brace without an opening one is dropped, an unclosed group ends with the source, and a
//! macro with missing arguments has none. `%` and `$` never reach this parser: the second normal
//! form removes them first.

use super::macros::{environment_spec, macro_spec};
use crate::grading::characters::{is_letter, is_space, is_word};

/// Deepest nesting of groups, environments and arguments. The reference exhausts Python's stack a
/// little later.
const MAX_DEPTH: usize = 200;

/// Tokens that may be read beyond a few per character. Arguments that turn out to be missing are
/// read again as text at each level, so `\frac{\frac{\frac{..` would double the work with every
/// `\frac`.
const MAX_REREADING: usize = 8_000;

/// A node of parsed LaTeX.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LatexNode {
    /// Literal characters.
    Chars(String),
    /// `{..}` or `[..]`.
    Group(Vec<LatexNode>),
    /// A macro.
    Macro(MacroNode),
    /// `\begin{..} .. \end{..}`.
    Environment { name: String, content: Vec<LatexNode> },
    /// `&`, `~` and the ligatures.
    Special(Special),
    /// `\( .. \)` or `\[ .. \]`.
    Math { display: bool, content: Vec<LatexNode> },
}

/// A special character or ligature: its source, which is ASCII, and its text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Special {
    pub(super) source: &'static str,
    pub(super) text: &'static str,
}

/// A macro with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MacroNode {
    pub(super) name: String,
    /// Arguments; an absent optional one is `None`. Empty if the arguments could not be read.
    pub(super) arguments: Vec<Option<LatexNode>>,
    /// White space after a macro of letters.
    pub(super) space_after: String,
    /// Whether the macro has no arguments at all, so that white space after it may matter.
    pub(super) bare: bool,
}

/// Parses a source; `None` if it is nested deeper, or needs more work, than any answer.
pub(super) fn parse(source: &str) -> Option<Vec<LatexNode>> {
    let source: Vec<char> = source.chars().collect();
    let work = MAX_REREADING + 8 * source.len();
    let mut walker = Walker { source, depth: 0, work, given_up: false };
    let nodes = walker.nodes(&mut 0, &Terminator::End);
    (!walker.given_up).then_some(nodes)
}

/// End of a list of nodes.
#[derive(Debug, Clone, PartialEq)]
enum Terminator {
    End,
    Brace,
    Bracket,
    Environment(String),
    Math(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
enum LatexTokenKind {
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
    Special(Special),
}

struct LatexToken {
    kind: LatexTokenKind,
    /// Position of its first character, after the white space.
    at: usize,
    /// Position after the token.
    end: usize,
    /// White space before the token.
    space: String,
}

struct Walker {
    source: Vec<char>,
    depth: usize,
    /// Number of nodes that may still be started.
    work: usize,
    given_up: bool,
}

/// The end of the source was reached; holds the white space before it.
struct EndOfSource(String);

/// Special characters; the longest first, so that the first match is the longest one.
const SPECIALS: [Special; 8] = [
    Special { source: "---", text: "—" },
    Special { source: "``", text: "“" },
    Special { source: "''", text: "”" },
    Special { source: "--", text: "–" },
    Special { source: "!`", text: "¡" },
    Special { source: "?`", text: "¿" },
    Special { source: "&", text: "   " },
    Special { source: "~", text: "\u{a0}" },
];

impl Walker {
    /// Reads the next token. With `brackets`, `[` and `]` are braces; with `environments`,
    /// `\begin{..}` is one token.
    fn token(&self, from: usize, brackets: bool, environments: bool) -> Result<LatexToken, EndOfSource> {
        let space = self.white_space(from);
        let at = from + space.chars().count();
        let Some(&first) = self.source.get(at) else { return Err(EndOfSource(space)) };
        if first == '\n' {
            return Ok(LatexToken { kind: LatexTokenKind::Char("\n\n".to_owned()), at, end: at + 2, space });
        }
        let single = |kind| LatexToken { kind, at, end: at + 1, space: space.clone() };
        Ok(match first {
            '\\' => return self.escape(at, space, environments),
            '{' => single(LatexTokenKind::Open('{')),
            '}' => single(LatexTokenKind::Close('}')),
            '[' if brackets => single(LatexTokenKind::Open('[')),
            ']' if brackets => single(LatexTokenKind::Close(']')),
            _ => match SPECIALS.into_iter().find(|special| self.has(at, special.source)) {
                Some(special) => {
                    LatexToken { kind: LatexTokenKind::Special(special), at, end: at + special.source.len(), space }
                }
                None => single(LatexTokenKind::Char(first.to_string())),
            },
        })
    }

    /// Returns the white space at a position, up to the first blank line.
    fn white_space(&self, from: usize) -> String {
        let rest = &self.source[from..];
        let ends = |at: usize, c: char| !is_space(c) || rest[at..].starts_with(&['\n', '\n']);
        rest.iter().enumerate().take_while(|&(at, &c)| !ends(at, c)).map(|(_, c)| c).collect()
    }

    fn has(&self, at: usize, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.source.get(at + i) == Some(&c))
    }

    /// Reads a token that starts with a backslash.
    fn escape(&self, at: usize, space: String, environments: bool) -> Result<LatexToken, EndOfSource> {
        let source = &self.source;
        let Some(&first) = source.get(at + 1) else { return Err(EndOfSource(String::new())) };
        let letters = source[at + 1..].iter().take_while(|&&c| is_letter(c)).count();
        let mut end = at + 1 + letters.max(1);
        let name: String = source[at + 1..end].iter().collect();
        if let Some(mark) = [r"\(", r"\)", r"\[", r"\]"].into_iter().find(|mark| mark.ends_with(first)) {
            return Ok(LatexToken { kind: LatexTokenKind::MathMark(mark), at, end, space });
        }
        if environments && (name == "begin" || name == "end") {
            let kind = match self.environment_name(end) {
                None => LatexTokenKind::Char(format!("\\{name}")),
                Some((environment, after)) => {
                    end = after;
                    if name == "begin" { LatexTokenKind::Begin(environment) } else { LatexTokenKind::Stop(environment) }
                }
            };
            return Ok(LatexToken { kind, at, end, space });
        }
        let space_after = if letters > 0 { self.white_space(end) } else { String::new() };
        end += space_after.chars().count();
        Ok(LatexToken { kind: LatexTokenKind::Macro { name, space_after }, at, end, space })
    }

    /// Matches `\s*\{([\w* ._-]+)\}` after `\begin` or `\end`.
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

    /// Reads nodes from `at` up to a terminator, and moves `at` behind it.
    fn nodes(&mut self, at: &mut usize, until: &Terminator) -> Vec<LatexNode> {
        let mut nodes = Vec::new();
        let mut chars = String::new();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.given_up = true;
        }
        while !self.given_up {
            match self.work.checked_sub(1) {
                Some(left) => self.work = left,
                None => self.given_up = true,
            }
            let token = match self.token(*at, *until == Terminator::Bracket, true) {
                Ok(token) => token,
                Err(EndOfSource(space)) => {
                    chars.push_str(&space);
                    *at = self.source.len();
                    break;
                }
            };
            *at = token.end;
            chars.push_str(&token.space);
            if let LatexTokenKind::Char(text) = &token.kind {
                chars.push_str(text);
                continue;
            }
            if !chars.is_empty() {
                nodes.push(LatexNode::Chars(std::mem::take(&mut chars)));
            }
            if is_end(until, &token.kind) {
                break;
            }
            if let Some(node) = self.node(token, at) {
                nodes.push(node);
            }
        }
        if !chars.is_empty() {
            nodes.push(LatexNode::Chars(chars));
        }
        self.depth -= 1;
        nodes
    }

    /// Reads the node that a token starts, and moves `at` behind it; `None` for a stray closing
    /// token, which is dropped.
    fn node(&mut self, token: LatexToken, at: &mut usize) -> Option<LatexNode> {
        match token.kind {
            LatexTokenKind::Open(brace) => {
                let until = if brace == '[' { Terminator::Bracket } else { Terminator::Brace };
                Some(LatexNode::Group(self.nodes(at, &until)))
            }
            LatexTokenKind::Begin(name) => {
                // The arguments are not rendered. If they are missing, the content begins here.
                self.arguments(environment_spec(&name).arguments, at, false);
                let content = self.nodes(at, &Terminator::Environment(name.clone()));
                Some(LatexNode::Environment { name, content })
            }
            LatexTokenKind::MathMark(open @ (r"\(" | r"\[")) => {
                let (close, display) = if open == r"\(" { (r"\)", false) } else { (r"\]", true) };
                Some(LatexNode::Math { display, content: self.nodes(at, &Terminator::Math(close)) })
            }
            LatexTokenKind::Macro { name, space_after } => {
                let spec = macro_spec(&name).arguments;
                let arguments = self.arguments(spec, at, name == "\\").unwrap_or_default();
                let bare = is_bare(spec, &arguments);
                Some(LatexNode::Macro(MacroNode { name, arguments, space_after, bare }))
            }
            LatexTokenKind::Special(special) => Some(LatexNode::Special(special)),
            LatexTokenKind::Close(_)
            | LatexTokenKind::Stop(_)
            | LatexTokenKind::MathMark(_)
            | LatexTokenKind::Char(_) => None,
        }
    }

    /// Reads the arguments of a macro, and moves `start` behind them; `None` if the source ends
    /// first.
    fn arguments(&mut self, spec: &str, start: &mut usize, tight: bool) -> Option<Vec<Option<LatexNode>>> {
        let mut arguments = Vec::with_capacity(spec.len());
        let mut at = *start;
        for kind in spec.chars() {
            match kind {
                '{' => arguments.push(Some(self.expression(&mut at)?)),
                '[' => {
                    let spaced = tight && self.source.get(at).is_some_and(|&c| is_space(c));
                    let token = if spaced { None } else { self.token(at, true, false).ok() };
                    match token {
                        Some(LatexToken { kind: LatexTokenKind::Open('['), end, .. }) => {
                            at = end;
                            arguments.push(Some(LatexNode::Group(self.nodes(&mut at, &Terminator::Bracket))));
                        }
                        _ => arguments.push(None),
                    }
                }
                _ => match self.token(at, false, true).ok()? {
                    LatexToken { kind: LatexTokenKind::Char(text), at: star, .. } if text == "*" => {
                        at = star + 1;
                        arguments.push(Some(LatexNode::Chars(text)));
                    }
                    _ => arguments.push(None),
                },
            }
        }
        *start = at;
        Some(arguments)
    }

    /// Reads one argument: a group, a macro without its own arguments, or a character. Moves `at`
    /// behind it; `None` at the end of the source.
    fn expression(&mut self, at: &mut usize) -> Option<LatexNode> {
        let token = self.token(*at, false, false).ok()?;
        *at = token.end;
        let lone = |name: String, space_after| MacroNode { name, arguments: Vec::new(), space_after, bare: true };
        Some(match token.kind {
            LatexTokenKind::Macro { name, space_after } if name != "end" => LatexNode::Macro(lone(name, space_after)),
            LatexTokenKind::MathMark(mark) => LatexNode::Macro(lone(mark.to_owned(), String::new())),
            LatexTokenKind::Special(special) => LatexNode::Special(special),
            LatexTokenKind::Open(_) => LatexNode::Group(self.nodes(at, &Terminator::Brace)),
            LatexTokenKind::Char(text) => LatexNode::Chars(text),
            // The argument is empty, and the token is read again after it.
            LatexTokenKind::Macro { .. }
            | LatexTokenKind::Close(_)
            | LatexTokenKind::Begin(_)
            | LatexTokenKind::Stop(_) => {
                *at = token.at;
                LatexNode::Chars(String::new())
            }
        })
    }
}

/// Whether a token is the terminator.
fn is_end(until: &Terminator, kind: &LatexTokenKind) -> bool {
    match (until, kind) {
        (Terminator::Brace, LatexTokenKind::Close('}')) | (Terminator::Bracket, LatexTokenKind::Close(']')) => true,
        (Terminator::Environment(name), LatexTokenKind::Stop(stop)) => name == stop,
        (Terminator::Math(close), LatexTokenKind::MathMark(mark)) => close == mark,
        _ => false,
    }
}

/// Whether pylatexenc's legacy node attributes report no argument of a macro, neither an optional
/// nor a mandatory one.
fn is_bare(spec: &str, arguments: &[Option<LatexNode>]) -> bool {
    let stars = spec.chars().take_while(|&c| c == '*').count();
    match arguments.get(stars..) {
        // With a single optional argument: bare while it is absent.
        Some([optional]) if spec[stars..] == *"[" => optional.is_none(),
        _ => arguments.is_empty(),
    }
}
