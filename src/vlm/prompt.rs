//! Prompts from template files.
//!
//! A template is a text with variables `{{name}}`; `\{{` is a literal `{{`. Special tokens of the
//! template itself, such as `<|im_start|>`, are special. The value of a variable is plain text,
//! whatever it contains (see [`super::tokenizer`]), or an image, which becomes `<|vision_start|>`,
//! one `<|image_pad|>` for each image token, and `<|vision_end|>`.

use std::path::{Path, PathBuf};

use super::conversation;

/// The chat format of this model family, the outermost template of every prompt, with `system`,
/// `image` and `question`.
const CHAT: &str = include_str!("../../pipelines/prompts/chat.txt");
/// Path of [`CHAT`] in the source tree, for messages.
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

/// The value of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill<'a> {
    /// Text without special tokens.
    Text(&'a str),
    /// An image of this many image tokens.
    Image(usize),
    /// Nothing.
    Empty,
}

/// A filled template: the input of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompt {
    pieces: Vec<Piece>,
}

/// A piece of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text without special tokens. No two pieces of text are adjacent.
    Text(String),
    /// A special token.
    Special(String),
    /// An image of this many image tokens, including the tokens before and after it.
    Image(usize),
}

/// A reason why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The template has an unknown variable.
    #[error("{}:{line}: there is no variable {{{{{name}}}}}; {known}", file.display())]
    Unknown {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The variable's name.
        name: String,
        /// The known variables, in a sentence.
        known: String,
    },
    /// The file is not a template of a conversation.
    #[error("{}: {problem}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// The problem, and what to do.
        problem: String,
    },
    /// `{{` is not followed by a name and `}}`.
    #[error("{}:{line}: {{{{ is not followed by a name and }}}}; write \\{{{{ for the characters themselves", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl Template {
    /// Parses a template that may use the variables `known`; errors name `file`.
    pub fn parse(file: &Path, text: &str, known: &[&str]) -> Result<Self, PromptError> {
        let mut segments = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(mut at) = rest.find("{{") {
            // The last two of three braces open the variable: `\boxed{{{answer}}}`.
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
            let (name, after) = parse_variable(&rest[at + 2..])
                .ok_or_else(|| PromptError::Malformed { file: file.to_owned(), line })?;
            if !known.contains(&name) {
                return Err(unknown_variable(file, line, name, known));
            }
            push_literal(&std::mem::take(&mut literal), &mut segments);
            segments.push(Segment::Variable { name: name.to_owned(), line });
            rest = after;
        }
        literal.push_str(rest);
        push_literal(&literal, &mut segments);
        Ok(Self { file: file.to_owned(), segments })
    }

    /// Reads the file of a template of a conversation, and returns it with its normalised text: see
    /// `vlm::conversation`. Errors name `file`.
    ///
    /// # Errors
    /// The file is not a text, or a variable is unknown or malformed.
    pub fn read(file: &Path, bytes: &[u8], known: &[&str]) -> Result<(Self, String), PromptError> {
        let text = conversation::normalise(bytes).map_err(|problem| unusable(file, problem))?;
        Ok((Self::parse(file, &text, known)?, text))
    }

    /// Checks that the normalised text of a template ends where the model's turn begins.
    ///
    /// # Errors
    /// It does not; the message names `file`.
    pub fn check_end(file: &Path, text: &str) -> Result<(), PromptError> {
        conversation::check_end(text).map_err(|problem| unusable(file, problem))
    }

    /// Returns the chat format with `{{system}}`, `{{image}}` and `{{question}}`, which ends where
    /// the answer begins.
    pub fn chat() -> Self {
        let read = Self::read(Path::new(CHAT_FILE), CHAT.as_bytes(), &CHAT_VARIABLES);
        read.expect("the template is compiled in and tested").0
    }

    /// Returns the names of the variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Variable { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    /// Fills the variables and returns a prompt.
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

    fn fill<'a>(&self, name: &str, line: usize, fills: &[(&str, Fill<'a>)]) -> Result<Fill<'a>, PromptError> {
        let value = fills.iter().find(|(known, _)| *known == name).map(|(_, fill)| *fill);
        value.ok_or_else(|| {
            unknown_variable(&self.file, line, name, &fills.iter().map(|(known, _)| *known).collect::<Vec<_>>())
        })
    }
}

impl Prompt {
    /// Returns a chat prompt: a system text, an image of this many tokens or none, and a question.
    pub fn chat(system: &str, image_tokens: Option<usize>, question: &str) -> Self {
        let image = image_tokens.map_or(Fill::Empty, Fill::Image);
        Template::chat()
            .prompt(&[("system", Fill::Text(system)), ("image", image), ("question", Fill::Text(question))])
            .expect("every variable of the chat format is filled")
    }

    /// Returns the pieces, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Appends text to the last piece if that is text: a token may span template and variable.
    fn push_text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }
}

/// Splits the text after `{{` into the variable's name and the text after `}}`.
fn parse_variable(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.split_once("}}")?;
    let name = name.trim();
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    plain.then_some((name, after))
}

/// Splits a literal at its special tokens: `<|`, letters, digits and underscores, `|>`.
fn push_literal(literal: &str, segments: &mut Vec<Segment>) {
    let mut plain = 0;
    let mut at = 0;
    while let Some(offset) = literal[at..].find("<|") {
        let start = at + offset;
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

fn unusable(file: &Path, problem: String) -> PromptError {
    PromptError::Unusable { file: file.to_owned(), problem }
}

fn unknown_variable(file: &Path, line: usize, name: &str, known: &[&str]) -> PromptError {
    let nearest = known.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
    let known = match nearest {
        Some(nearest) if strsim::jaro(nearest, name) > 0.75 => format!("did you mean {{{{{nearest}}}}}?"),
        Some(_) => format!("the variables are: {}", known.join(", ")),
        None => "this template has no variables".to_owned(),
    };
    PromptError::Unknown { file: file.to_owned(), line, name: name.to_owned(), known }
}
