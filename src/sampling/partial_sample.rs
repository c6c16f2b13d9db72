//! A partially drawn sample, and its stop conditions.

use super::job::{FinishReason, Sample};
use super::options::SamplingOptions;
use crate::vlm::tokenizer::Tokenizer;

/// A sample that is not finished: the tokens drawn so far.
#[derive(Debug, Default)]
pub(super) struct PartialSample {
    pub(super) tokens: Vec<u32>,
    logprobs: Vec<f32>,
    /// Text so far, for the search of stop strings.
    bytes: Vec<u8>,
    /// Offset in `bytes` at which a stop string begins.
    cut: Option<usize>,
}

impl PartialSample {
    /// Adds a token; returns the reason if the sample ends with it.
    pub(super) fn push(
        &mut self,
        token: u32,
        logprob: f32,
        options: &SamplingOptions,
        tokenizer: &Tokenizer,
    ) -> Option<FinishReason> {
        self.tokens.push(token);
        self.logprobs.push(logprob);
        if options.stop_tokens.contains(&token) || self.reaches_stop_string(token, options, tokenizer) {
            Some(FinishReason::Stop)
        } else {
            (self.tokens.len() >= options.max_tokens).then_some(FinishReason::Length)
        }
    }

    fn reaches_stop_string(&mut self, token: u32, options: &SamplingOptions, tokenizer: &Tokenizer) -> bool {
        if options.stop_strings.is_empty() || tokenizer.is_special(token) {
            return false;
        }
        let before = self.bytes.len();
        self.bytes.extend_from_slice(tokenizer.token_bytes(token));
        let find = |stop: &String| {
            // A match may begin in earlier tokens, but it ends in this one.
            let from = before.saturating_sub(stop.len() - 1);
            let position = self.bytes[from..].windows(stop.len()).position(|w| w == stop.as_bytes());
            position.map(|at| from + at)
        };
        self.cut = options.stop_strings.iter().filter_map(find).min();
        self.cut.is_some()
    }

    /// Returns the finished sample.
    pub(super) fn finish(self, finish_reason: FinishReason, tokenizer: &Tokenizer) -> Sample {
        let text = match self.cut {
            Some(cut) => String::from_utf8_lossy(&self.bytes[..cut]).into_owned(),
            None => tokenizer.decode(&self.tokens, true),
        };
        Sample { text, token_ids: self.tokens, logprobs: self.logprobs, finish_reason }
    }
}
