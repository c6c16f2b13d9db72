//! Sampling options: temperature, top-k, top-p, stop conditions.

/// Settings for drawing tokens and for ending a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Temperature: divides the logits; 0 is greedy decoding.
    pub temperature: f64,
    /// Top-k: draws from the `k` most likely tokens.
    pub top_k: Option<usize>,
    /// Top-p (nucleus sampling): draws from the smallest set of most likely tokens (of those that
    /// top-k leaves) whose probabilities add up to `p`.
    pub top_p: Option<f64>,
    /// Largest number of tokens of a sample.
    pub max_tokens: usize,
    /// Tokens that end a sample; the token is part of it.
    pub stop_tokens: Vec<u32>,
    /// Strings that end a sample; its text ends before them.
    pub stop_strings: Vec<String>,
    /// Tokens that are never drawn, in addition to the placeholders of images and videos.
    pub forbidden: Vec<u32>,
}

/// A reason why a sampling option is out of range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OptionsError {
    /// The temperature is negative, NaN, or so small or large that the probabilities degenerate.
    #[error("the temperature must be 0 (greedy) or 0.001 to 1000, not {0}")]
    Temperature(f64),
    /// Top-k is 0.
    #[error("top-k must be at least 1")]
    TopK,
    /// Top-p is not a probability above 0.
    #[error("top-p must be above 0 and at most 1, not {0}")]
    TopP(f64),
    /// The token limit is 0.
    #[error("the token limit must be at least 1")]
    MaxTokens,
    /// A stop string is empty.
    #[error("a stop string must not be empty")]
    StopString,
}

impl SamplingOptions {
    /// Returns the options of greedy decoding, up to `max_tokens` tokens, ending at `stop_tokens`.
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

    /// Returns the factor of the logits: 1 for greedy decoding.
    pub(super) fn inverse_temperature(&self) -> f32 {
        if self.temperature == 0.0 { 1.0 } else { (1.0 / self.temperature) as f32 }
    }

    /// Whether tokens are drawn from the whole distribution.
    pub(super) fn is_plain(&self) -> bool {
        self.top_k.is_none() && self.top_p.is_none_or(|p| p >= 1.0)
    }

    /// Checks the ranges of the options.
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
