//! Prompts from template files.
//!
//! A template is a text with variables `{{name}}`; `\{{` is a literal `{{`. Its own special tokens (`<|im_start|>`) are
//! special. What is put into a variable is plain text, whatever it contains (see [`super::tokenizer`]), or an image,
//! which becomes `<|vision_start|>`, one `<|image_pad|>` for each image token, and `<|vision_end|>`.

use std::path::{Path, PathBuf};

/// The chat format of this family, the outermost template of every prompt: `system`, `image` and `question`.
const CHAT: &str = include_str!("../../pipelines/prompts/chat.txt");
/// Where [`CHAT`] lies in the source tree, for messages.
const CHAT_FILE: &str = "pipelines/prompts/chat.txt";
/// The variables of [`CHAT`].
const CHAT_VARIABLES: [&str; 3] = ["system", "image", "question"];

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    file: PathBuf,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Text(String),
    Special(String),
    Variable { name: String, line: usize },
}

/// What is put into a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill<'a> {
    /// Text, in which nothing is special.
    Text(&'a str),
    /// An image of so many image tokens.
    Image(usize),
    /// Nothing.
    Empty,
}

/// A filled template: what a model is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompt {
    pieces: Vec<Piece>,
}

/// A part of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text, in which nothing is special. Between two other pieces there is at most one.
    Text(String),
    /// A special token.
    Special(String),
    /// An image of so many image tokens, with the tokens around it.
    Image(usize),
}

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The file cannot be read.
    #[error("cannot read the template {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A variable that nothing fills.
    #[error("{}:{line}: there is no variable {{{{{name}}}}}; {known}", file.display())]
    Unknown {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The variable's name.
        name: String,
        /// The ones there are, in a sentence.
        known: String,
    },
    /// `{{` without a name and `}}`.
    #[error("{}:{line}: {{{{ is not followed by a name and }}}}; write \\{{{{ for the characters themselves", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An image where only text can be.
    #[error("{}:{line}: {{{{{name}}}}} is an image, but this template makes a text", file.display())]
    ImageInText {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The variable's name.
        name: String,
    },
}

impl Template {
    /// Reads a template file that may use the variables `known`.
    pub fn load(file: &Path, known: &[&str]) -> Result<Self, PromptError> {
        let text =
            std::fs::read_to_string(file).map_err(|source| PromptError::Read { file: file.to_owned(), source })?;
        Self::parse(file, &text, known)
    }

    /// Parses a template that may use the variables `known`; `file` is what errors name.
    pub fn parse(file: &Path, text: &str, known: &[&str]) -> Result<Self, PromptError> {
        let mut segments = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(mut at) = rest.find("{{") {
            // Of three braces the last two open the variable: `\boxed{{{answer}}}`.
            at += rest[at + 2..].chars().take_while(|&c| c == '{').count();
            let before = &rest[..at];
            if let Some(before) = before.strip_suffix('\\') {
                literal.push_str(before);
                literal.push_str("{{");
                rest = &rest[at + 2..];
                continue;
            }
            literal.push_str(before);
            let line = 1 + text[..text.len() - rest.len() + at].matches('\n').count();
            let (name, after) =
                variable(&rest[at + 2..]).ok_or_else(|| PromptError::Malformed { file: file.to_owned(), line })?;
            if !known.contains(&name) {
                return Err(unknown(file, line, name, known));
            }
            push_literal(&std::mem::take(&mut literal), &mut segments);
            segments.push(Segment::Variable { name: name.to_owned(), line });
            rest = after;
        }
        literal.push_str(rest);
        push_literal(&literal, &mut segments);
        Ok(Self { file: file.to_owned(), segments })
    }

    /// The chat format: `{{system}}`, `{{image}}` and `{{question}}`, up to where the answer begins.
    pub fn chat() -> Self {
        Self::parse(Path::new(CHAT_FILE), CHAT, &CHAT_VARIABLES).expect("the template is compiled in and tested")
    }

    /// The names of the variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Variable { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    /// Fills the variables into a prompt.
    pub fn prompt(&self, fills: &[(&str, Fill<'_>)]) -> Result<Prompt, PromptError> {
        let mut prompt = Prompt::default();
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => prompt.push_text(text),
                Segment::Special(token) => prompt.pieces.push(Piece::Special(token.clone())),
                Segment::Variable { name, line } => match self.fill(name, *line, fills)? {
                    Fill::Text(text) => prompt.push_text(text),
                    Fill::Image(tokens) => prompt.pieces.push(Piece::Image(tokens)),
                    Fill::Empty => {}
                },
            }
        }
        Ok(prompt)
    }

    /// Fills the variables into a text, such as a question that then goes into the chat format. Nothing in it is special.
    pub fn text(&self, fills: &[(&str, Fill<'_>)]) -> Result<String, PromptError> {
        let mut out = String::new();
        for segment in &self.segments {
            match segment {
                Segment::Text(text) | Segment::Special(text) => out.push_str(text),
                Segment::Variable { name, line } => match self.fill(name, *line, fills)? {
                    Fill::Text(text) => out.push_str(text),
                    Fill::Empty => {}
                    Fill::Image(_) => {
                        let (file, name) = (self.file.clone(), name.clone());
                        return Err(PromptError::ImageInText { file, line: *line, name });
                    }
                },
            }
        }
        Ok(out)
    }

    fn fill<'a>(&self, name: &str, line: usize, fills: &[(&str, Fill<'a>)]) -> Result<Fill<'a>, PromptError> {
        let found = fills.iter().find(|(known, _)| *known == name).map(|(_, fill)| *fill);
        found.ok_or_else(|| unknown(&self.file, line, name, &fills.iter().map(|(known, _)| *known).collect::<Vec<_>>()))
    }
}

impl Prompt {
    /// The chat format filled: a system text, an image of so many tokens or none, and what is asked about it.
    pub fn chat(system: &str, image_tokens: Option<usize>, question: &str) -> Self {
        let image = image_tokens.map_or(Fill::Empty, Fill::Image);
        Template::chat()
            .prompt(&[("system", Fill::Text(system)), ("image", image), ("question", Fill::Text(question))])
            .expect("every variable of the chat format is filled")
    }

    /// The parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Text that meets is one piece: tokens may span what a template and a person wrote.
    fn push_text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }
}

/// The name after `{{` and what follows the `}}`.
fn variable(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.split_once("}}")?;
    let name = name.trim();
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    plain.then_some((name, after))
}

/// Splits a literal at its special tokens: `<|`, letters and underscores, `|>`.
fn push_literal(literal: &str, segments: &mut Vec<Segment>) {
    let mut plain = 0;
    let mut at = 0;
    while let Some(found) = literal[at..].find("<|") {
        let start = at + found;
        let name = literal[start + 2..].split("|>").next().unwrap_or_default();
        let end = start + 2 + name.len() + 2;
        let special = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if special && end <= literal.len() {
            if plain < start {
                segments.push(Segment::Text(literal[plain..start].to_owned()));
            }
            segments.push(Segment::Special(literal[start..end].to_owned()));
            (plain, at) = (end, end);
        } else {
            at = start + 2;
        }
    }
    if plain < literal.len() {
        segments.push(Segment::Text(literal[plain..].to_owned()));
    }
}

fn unknown(file: &Path, line: usize, name: &str, known: &[&str]) -> PromptError {
    let nearest = known.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
    let known = match nearest {
        Some(nearest) if strsim::jaro(nearest, name) > 0.75 => format!("is {{{{{nearest}}}}} meant?"),
        Some(_) => format!("there are: {}", known.join(", ")),
        None => "this template can have none".to_owned(),
    };
    PromptError::Unknown { file: file.to_owned(), line, name: name.to_owned(), known }
}
