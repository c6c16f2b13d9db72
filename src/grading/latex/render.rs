//! Rendering of LaTeX nodes as text, as pylatexenc's `LatexNodes2Text` does by default.

use super::macros::{EnvironmentBody, Expansion, environment_spec, macro_spec};
use super::parse::{LatexNode, MacroNode};
use crate::grading::characters::{compose, strip};

/// Renders nodes; `None` where the reference raises an exception, or where the text grows far
/// beyond `source` bytes (each accent on an accent doubles it).
pub(super) fn render(nodes: &[LatexNode], source: usize) -> Option<String> {
    let longest = 4096 + 16 * source;
    Renderer { in_equation: false, longest, work: 64 * longest }.list(nodes)
}

struct Renderer {
    /// Inside mathematics white space is handled more loosely.
    in_equation: bool,
    /// Longest text of a node, in bytes.
    longest: usize,
    /// Bytes that the texts of all remaining nodes may have together.
    work: usize,
}

impl Renderer {
    fn list(&mut self, nodes: &[LatexNode]) -> Option<String> {
        let mut out = String::new();
        let mut before: Option<&LatexNode> = None;
        for node in nodes {
            if let (true, Some(LatexNode::Macro(bare)), LatexNode::Chars(_)) = (self.in_equation, before, node)
                && bare.bare
            {
                out.push_str(&bare.space_after);
            }
            out.push_str(&self.node(node)?);
            before = Some(node);
        }
        Some(out)
    }

    fn node(&mut self, node: &LatexNode) -> Option<String> {
        let text = match node {
            LatexNode::Chars(text) if self.in_equation && strip(text).is_empty() => String::new(),
            LatexNode::Chars(text) => text.clone(),
            LatexNode::Group(content) => self.list(content)?,
            LatexNode::Macro(node) => self.macro_text(node)?,
            LatexNode::Environment { name, content } => self.environment(name, content)?,
            LatexNode::Special(special) => special.text.to_owned(),
            LatexNode::Math { display, content } => self.equation(content, *display)?,
        };
        self.work = self.work.checked_sub(text.len())?;
        (text.len() <= self.longest).then_some(text)
    }

    fn equation(&mut self, content: &[LatexNode], display: bool) -> Option<String> {
        let outside = std::mem::replace(&mut self.in_equation, true);
        let text = self.list(content);
        self.in_equation = outside;
        let text = text?;
        let text = strip(&text);
        Some(if display { format!("\n    {}\n", text.replace('\n', "\n    ")) } else { text.to_owned() })
    }

    fn macro_text(&mut self, node: &MacroNode) -> Option<String> {
        match macro_spec(&node.name).expansion {
            Expansion::Nothing => Some(String::new()),
            Expansion::Text(text) => Some(text.to_owned()),
            Expansion::Arguments => node.arguments.iter().map(|argument| self.argument(argument.as_ref())).collect(),
            Expansion::Format(format) => {
                let arguments: Option<Vec<String>> =
                    node.arguments.iter().map(|argument| self.argument(argument.as_ref())).collect();
                format_as_python(format, &arguments?)
            }
            Expansion::Style(style) => {
                let text = self.argument(node.arguments.first().and_then(Option::as_ref))?;
                Some(text.chars().map(|c| style_letter(c, style)).collect())
            }
            Expansion::Accent(mark) => {
                let text = match node.arguments.first() {
                    Some(argument) => strip(&self.argument(argument.as_ref())?).to_owned(),
                    None => " ".to_owned(),
                };
                Some(add_accents(&text, mark))
            }
            Expansion::Unsupported => None,
        }
    }

    fn argument(&mut self, node: Option<&LatexNode>) -> Option<String> {
        node.map_or(Some(String::new()), |node| self.node(node))
    }

    fn environment(&mut self, name: &str, content: &[LatexNode]) -> Option<String> {
        match environment_spec(name).expansion {
            EnvironmentBody::Plain => self.list(content),
            EnvironmentBody::Equation => self.equation(content, true),
            EnvironmentBody::Matrix => self.matrix(content),
            EnvironmentBody::Format(format) => format_as_python(format, &[self.list(content)?]),
            EnvironmentBody::Unsupported => None,
        }
    }

    /// `[ a b; c d ]` with cells padded to the widest; the reference fails without cells.
    fn matrix(&mut self, content: &[LatexNode]) -> Option<String> {
        let mut rows = Vec::new();
        for row in content.split(|node| matches!(node, LatexNode::Macro(node) if node.name == "\\")) {
            let mut cells = Vec::new();
            for cell in row.split(|node| matches!(node, LatexNode::Special(special) if special.source == "&")) {
                if !cell.is_empty() {
                    cells.push(strip(&self.list(cell)?).to_owned());
                }
            }
            rows.push(cells);
        }
        let width = rows.iter().flatten().map(|cell| cell.chars().count()).max()?;
        if width * rows.iter().map(Vec::len).sum::<usize>() > self.longest {
            return None;
        }
        let line = |cells: &Vec<String>| cells.iter().map(|c| format!("{c:>width$}")).collect::<Vec<_>>().join(" ");
        Some(format!("[ {} ]", rows.iter().map(line).collect::<Vec<_>>().join("; ")))
    }
}

/// Python's `%` for the two formats in the table. With a wrong number of `%s` the format is kept as
/// it is; a missing `%(n)s` is an error.
fn format_as_python(format: &str, arguments: &[String]) -> Option<String> {
    if format.contains("%s") {
        if format.matches("%s").count() != arguments.len() {
            return Some(format.to_owned());
        }
        let mut out = String::new();
        for (at, piece) in format.split("%s").enumerate() {
            if at > 0 {
                out.push_str(&arguments[at - 1]);
            }
            out.push_str(piece);
        }
        return Some(out);
    }
    let (head, rest) = format.split_once("%(")?;
    let (number, tail) = rest.split_once(")s")?;
    let argument = arguments.get(number.parse::<usize>().ok()?.checked_sub(1)?)?;
    Some(format!("{head}{argument}{tail}"))
}

/// Adds an accent to each character, composed where Unicode has a composed character.
fn add_accents(text: &str, mark: char) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let base = match c {
            'ı' => 'i',
            'ȷ' => 'j',
            c => c,
        };
        match compose(base, mark) {
            Some(one) => out.push(one),
            None => out.extend([base, mark]),
        }
    }
    out
}

/// Letters of a style that are in older blocks of Unicode, where chart U+1D400 has gaps.
const GAPS: [(&str, &str, &str); 4] = [
    ("italic", "h", "ℎ"),
    ("script", "BEFHILMRego", "ℬℰℱℋℐℒℳℛℯℊℴ"),
    ("fraktur", "CHIRZ", "ℭℌℑℜℨ"),
    ("doublestruck", "CHNPQRZ", "ℂℍℕℙℚℝℤ"),
];

/// Returns the letter in a mathematical alphabet (Unicode chart U+1D400).
fn style_letter(c: char, style: &str) -> char {
    if !c.is_ascii_alphabetic() {
        return c;
    }
    let gaps = GAPS.iter().filter(|gap| gap.0 == style).flat_map(|gap| gap.1.chars().zip(gap.2.chars()));
    if let Some((_, styled)) = gaps.into_iter().find(|&(plain, _)| plain == c) {
        return styled;
    }
    let upper: u32 = match style {
        "bold" => 0x1d400,
        "italic" => 0x1d434,
        "script" => 0x1d49c,
        "fraktur" => 0x1d504,
        "doublestruck" => 0x1d538,
        "sans" => 0x1d5a0,
        _ => 0x1d670,
    };
    let offset = if c.is_ascii_uppercase() { u32::from(c) - 65 } else { u32::from(c) - 97 + 26 };
    char::from_u32(upper + offset).unwrap_or(c)
}
