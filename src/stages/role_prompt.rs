//! The prompt of a role: a template file, the digest that names it, and the tokens that it becomes.

use std::path::Path;

use crate::ids::{Digest, PromptId};
use crate::vlm::prompt::{Fill, Prompt, PromptError, Template};
use crate::vlm::tokenizer::{Tokenizer, TokenizerError};

/// The variables that the template of a role may use.
const VARIABLES: [&str; 2] = ["image", "question"];

/// A role's prompt.
#[derive(Debug, Clone)]
pub struct RolePrompt {
    /// The digest of the template's text.
    pub id: PromptId,
    /// The template's text.
    pub text: String,
    template: Template,
}

impl RolePrompt {
    /// Parses the text of a template: the whole conversation up to where the model goes on, with `{{image}}` and, for the
    /// Reasoner, `{{question}}`. `file` is what errors name.
    ///
    /// # Errors
    /// An unknown variable or a malformed one.
    pub fn parse(file: &Path, text: &str) -> Result<Self, PromptError> {
        let template = Template::parse(file, text, &VARIABLES)?;
        Ok(Self { id: PromptId(Digest::of(text.as_bytes())), text: text.to_owned(), template })
    }

    /// Whether the prompt has a place for this.
    pub fn has(&self, variable: &str) -> bool {
        self.template.variables().any(|name| name == variable)
    }

    /// The tokens of the prompt for an image of so many image tokens, or none, and a question.
    ///
    /// # Errors
    /// Text that the tokenizer cannot take.
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

/// Why a prompt has no tokens.
#[derive(Debug, thiserror::Error)]
pub enum RolePromptError {
    /// The template.
    #[error(transparent)]
    Template(#[from] PromptError),
    /// The text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}
