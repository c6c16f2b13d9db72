//! Which tokens attend to which.

use std::ops::Range;

use super::attention_reference::Plan;
use super::lazy::LazyDerived;
use crate::kernels::attention_backward::TokenGroup;

/// A prompt and the responses that share it; its tokens lie as prompt, first response, second response and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPrompt {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of each response.
    pub responses: Vec<usize>,
}

/// The segments that tokens attend within, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    groups: Vec<SharedPrompt>,
    causal: bool,
    /// For the composed attention, on the device of the first tokens that attended within these segments.
    pub(super) plan: LazyDerived<Plan>,
}

/// Consecutive tokens, and those before them that they all see.
#[derive(Debug, Clone)]
pub(super) struct QuerySpan {
    pub(super) prefix: Range<usize>,
    pub(super) own: Range<usize>,
}

impl Segments {
    /// Sequences of these lengths in which a token sees itself and what came before.
    pub fn causal(lengths: Vec<usize>) -> Self {
        Self { groups: lengths.into_iter().map(alone).collect(), causal: true, plan: LazyDerived::default() }
    }

    /// Groups of these lengths in which every token sees every other.
    pub fn full(lengths: Vec<usize>) -> Self {
        Self { groups: lengths.into_iter().map(alone).collect(), causal: false, plan: LazyDerived::default() }
    }

    /// Prompts that several responses share: a response's token sees the whole prompt, itself and what came before in
    /// its response, as in a sequence of the prompt and that response alone.
    pub fn shared(groups: Vec<SharedPrompt>) -> Self {
        Self { groups, causal: true, plan: LazyDerived::default() }
    }

    /// Tokens in all segments.
    pub fn tokens(&self) -> usize {
        self.groups().map(|group| group.tokens()).sum()
    }

    pub(super) fn is_causal(&self) -> bool {
        self.causal
    }

    /// Tokens of the longest part.
    pub(super) fn longest(&self) -> usize {
        self.parts().map(|part| part.own.len()).max().unwrap_or(0)
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = TokenGroup<'_>> {
        self.groups.iter().map(|g| TokenGroup { prompt: g.prompt, responses: &g.responses, causal: self.causal })
    }

    /// The parts that have tokens, in order; a response follows its prompt.
    pub(super) fn parts(&self) -> impl Iterator<Item = QuerySpan> {
        let mut first = 0;
        self.groups
            .iter()
            .flat_map(move |group| {
                let prompt = first..first + group.prompt;
                first = prompt.end;
                let whole = QuerySpan { prefix: prompt.end..prompt.end, own: prompt.clone() };
                let mut parts = vec![whole];
                for tokens in &group.responses {
                    parts.push(QuerySpan { prefix: prompt.clone(), own: first..first + tokens });
                    first += tokens;
                }
                parts
            })
            .filter(|part| !part.own.is_empty())
    }
}

fn alone(length: usize) -> SharedPrompt {
    SharedPrompt { prompt: length, responses: Vec::new() }
}
