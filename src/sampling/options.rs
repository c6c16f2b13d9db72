//! How tokens are drawn, and when a sample ends.

/// What to draw from and when to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f64,
    /// Draw from this many of the likeliest tokens.
    pub top_k: Option<usize>,
    /// Draw from the fewest likeliest tokens (of those that `top_k` leaves) that together have this probability.
    pub top_p: Option<f64>,
    /// The most tokens of a sample.
    pub max_tokens: usize,
    /// Tokens that end a sample; the token is part of it.
    pub stop_tokens: Vec<u32>,
    /// Texts that end a sample; its text ends before them.
    pub stop_strings: Vec<String>,
    /// Tokens that are never drawn, beside the placeholders of images and videos, which never are.
    pub forbidden: Vec<u32>,
}

/// An option out of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OptionsError {
    /// The temperature is negative, not a number, or so small or large that no probabilities are left.
    #[error("the temperature must be 0 (greedy) or 0.001 to 1000, not {0}")]
    Temperature(f64),
    /// No token to draw from.
    #[error("top-k must be at least 1")]
    TopK,
    /// Not a probability.
    #[error("top-p must be above 0 and at most 1, not {0}")]
    TopP(f64),
    /// No token to draw.
    #[error("a sample must have room for at least one token")]
    MaxTokens,
    /// Every text contains the empty string.
    #[error("a stop string must not be empty")]
    StopString,
}

impl SamplingOptions {
    /// The likeliest tokens, up to `max_tokens`, ending at `stop_tokens`.
    pub fn greedy(max_tokens: usize, stop_tokens: Vec<u32>) -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: None,
            max_tokens,
            stop_tokens,
            stop_strings: Vec::new(),
            forbidden: Vec::new(),
        }
    }

    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), OptionsError> {
        if !(self.temperature == 0.0 || (1e-3..=1e3).contains(&self.temperature)) {
            return Err(OptionsError::Temperature(self.temperature));
        }
        if self.top_k == Some(0) {
            return Err(OptionsError::TopK);
        }
        if let Some(p) = self.top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            return Err(OptionsError::TopP(p));
        }
        if self.max_tokens == 0 {
            return Err(OptionsError::MaxTokens);
        }
        if self.stop_strings.iter().any(String::is_empty) {
            return Err(OptionsError::StopString);
        }
        Ok(())
    }
}
