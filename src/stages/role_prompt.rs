//! Prompts of the two roles: template, digest and tokens.

use std::path::{Path, PathBuf};

use crate::ids::{Digest, PromptId};
use crate::vlm::prompt::{Fill, Prompt, PromptError, Template};
use crate::vlm::tokenizer::{Tokenizer, TokenizerError};

/// Variables that a role's template may use.
const VARIABLES: [&str; 2] = ["image", "question"];

/// The templates that ship with the program, by file name.
const SHIPPED: [(&str, &str); 6] = [
    ("nano-questioner.txt", include_str!("../../pipelines/prompts/nano-questioner.txt")),
    ("nano-reasoner.txt", include_str!("../../pipelines/prompts/nano-reasoner.txt")),
    ("paper-questioner.txt", include_str!("../../pipelines/prompts/paper-questioner.txt")),
    ("paper-reasoner.txt", include_str!("../../pipelines/prompts/paper-reasoner.txt")),
    ("released-questioner.txt", include_str!("../../pipelines/prompts/released-questioner.txt")),
    ("released-reasoner.txt", include_str!("../../pipelines/prompts/released-reasoner.txt")),
];

/// Folder of the shipped templates in a checkout.
pub const PROMPTS_FOLDER: &str = "pipelines/prompts";

/// Returns the text of a template that ships with the program; `file` is a path in a checkout, such
/// as `pipelines/prompts/paper-reasoner.txt`.
pub fn shipped_prompt(file: &Path) -> Option<&'static str> {
    let name = file.strip_prefix(PROMPTS_FOLDER).ok()?;
    SHIPPED.iter().find(|(shipped, _)| name == Path::new(shipped)).map(|(_, text)| *text)
}

/// A role's prompt.
#[derive(Debug, Clone)]
pub struct RolePrompt {
    /// Digest of the template's text.
    pub id: PromptId,
    /// The template's text, normalised.
    pub text: String,
    file: PathBuf,
    template: Template,
}

impl RolePrompt {
    /// Reads the file of a template: the whole conversation up to the model's turn, with
    /// `{{image}}` and, for the Reasoner, `{{question}}`. Errors name `file`. Files that differ
    /// only in invisible white space give the same prompt, see [`Template::read`].
    ///
    /// # Errors
    /// The file is not a text, or a variable is unknown or malformed.
    pub fn read(file: &Path, bytes: &[u8]) -> Result<Self, PromptError> {
        let (template, text) = Template::read(file, bytes, &VARIABLES)?;
        Ok(Self { id: PromptId(Digest::of(text.as_bytes())), text, file: file.to_owned(), template })
    }

    /// Parses the text of a prompt that a store holds, which is used as it is. Errors name `file`.
    ///
    /// # Errors
    /// A variable is unknown or malformed.
    pub fn from_stored(file: &Path, text: &str) -> Result<Self, PromptError> {
        let template = Template::parse(file, text, &VARIABLES)?;
        Ok(Self { id: PromptId(Digest::of(text.as_bytes())), text: text.to_owned(), file: file.to_owned(), template })
    }

    /// Returns the prompt that [`read`](Self::read) gives for a file with this text.
    ///
    /// # Errors
    /// It would refuse the file.
    pub fn normalised(&self) -> Result<Self, PromptError> {
        Self::read(&self.file, self.text.as_bytes())
    }

    /// Checks that the template ends where the model's turn begins.
    ///
    /// # Errors
    /// It does not.
    pub fn check_end(&self) -> Result<(), PromptError> {
        Template::check_end(&self.file, &self.text)
    }

    /// Whether the template uses a variable.
    pub fn has(&self, variable: &str) -> bool {
        self.template.variables().any(|name| name == variable)
    }

    /// Returns the tokens of the prompt for a question and an image of `image_tokens` tokens;
    /// `None`: no image.
    ///
    /// # Errors
    /// The tokenizer cannot encode the text.
    pub fn tokens(
        &self,
        tokenizer: &Tokenizer,
        image_tokens: Option<usize>,
        question: &str,
    ) -> Result<Vec<u32>, RolePromptError> {
        let image = image_tokens.map_or(Fill::Empty, Fill::Image);
        let prompt: Prompt = self.template.prompt(&[("image", image), ("question", Fill::Text(question))])?;
        Ok(tokenizer.encode_prompt(&prompt)?)
    }
}

/// Reasons why a prompt cannot be turned into tokens.
#[derive(Debug, thiserror::Error)]
pub enum RolePromptError {
    /// The template failed.
    #[error(transparent)]
    Template(#[from] PromptError),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}
