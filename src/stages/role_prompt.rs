//! Prompts of the two roles: template, digest and tokens.

use std::path::Path;

use crate::ids::{Digest, PromptId};
use crate::vlm::prompt::{Fill, Prompt, PromptError, Template};
use crate::vlm::tokenizer::{Tokenizer, TokenizerError};

/// Variables that a role's template may use.
const VARIABLES: [&str; 2] = ["image", "question"];

/// A role's prompt.
#[derive(Debug, Clone)]
pub struct RolePrompt {
    /// Digest of the template's text.
    pub id: PromptId,
    /// The template's text.
    pub text: String,
    template: Template,
}

impl RolePrompt {
    /// Parses a template: the whole conversation up to the model's turn, with `{{image}}` and, for
    /// the Reasoner, `{{question}}`. Errors name `file`.
    ///
    /// # Errors
    /// A variable is unknown or malformed.
    pub fn parse(file: &Path, text: &str) -> Result<Self, PromptError> {
        let template = Template::parse(file, text, &VARIABLES)?;
        Ok(Self { id: PromptId(Digest::of(text.as_bytes())), text: text.to_owned(), template })
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
