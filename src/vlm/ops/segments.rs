//! Segments of packed tokens, which determine which tokens attend to which.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use super::lazy::LazyDerived;
use crate::kernels::attention_backward::TokenGroup;

/// A prompt and the responses that share it, in tokens. The tokens are in the order prompt, first
/// response, second response and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPrompt {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of each response.
    pub responses: Vec<usize>,
}

/// The segments of packed tokens, in order. Tokens attend within their segment only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segments {
    groups: Vec<SharedPrompt>,
    pub(super) causal: bool,
    /// Plan of the reference attention, on the device of the first tokens that attended within
    /// these segments.
    pub(super) plan: LazyDerived<Plan>,
}

/// The new tokens of a sequence whose earlier tokens are cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepSegment {
    /// New tokens.
    pub tokens: usize,
    /// Tokens already cached.
    pub context: usize,
    /// The sequence's blocks from its first token on; enough for the new tokens too.
    pub blocks: Vec<u32>,
}

/// Consecutive tokens, and the earlier tokens that all of them see.
#[derive(Debug, Clone)]
pub(super) struct QuerySpan {
    pub(super) prefix: Range<usize>,
    pub(super) own: Range<usize>,
}

/// The batches of matrix products that the reference attention computes, the same in every layer.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) batches: Vec<Batch>,
    /// Row in the concatenated batches of each token, `[tokens]`; `None` if that is the order of
    /// the tokens already.
    pub(super) order: Option<Tensor>,
}

/// Spans of equal lengths, computed as one batch of matrix products.
#[derive(Debug)]
pub(super) struct Batch {
    /// Number of spans.
    pub(super) count: usize,
    /// Number of queries of each span.
    pub(super) own: usize,
    /// Indexes of the queries' and of the keys' tokens; `None` if both are all tokens in order.
    pub(super) tokens: Option<[Tensor; 2]>,
    /// Minus infinity where a query does not see a key, `[own, prefix + own]` in f32.
    pub(super) mask: Option<Tensor>,
}

impl Segments {
    /// Creates sequences of these lengths, in which a token sees itself and the tokens before it.
    pub fn causal(lengths: Vec<usize>) -> Self {
        Self::new(lengths.into_iter().map(without_responses).collect(), true)
    }

    /// Creates groups of these lengths, in which every token sees every other.
    pub fn full(lengths: Vec<usize>) -> Self {
        Self::new(lengths.into_iter().map(without_responses).collect(), false)
    }

    /// Creates prompts that several responses share. A response's token sees the whole prompt,
    /// itself and the tokens before it in its response, as in a sequence of the prompt and that
    /// response alone.
    pub fn shared(groups: Vec<SharedPrompt>) -> Self {
        Self::new(groups, true)
    }

    fn new(groups: Vec<SharedPrompt>, causal: bool) -> Self {
        Self { groups, causal, plan: LazyDerived::default() }
    }

    /// Returns the number of tokens in all segments.
    pub fn tokens(&self) -> usize {
        self.groups().map(|group| group.tokens()).sum()
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = TokenGroup<'_>> {
        self.groups.iter().map(|g| TokenGroup { prompt: g.prompt, responses: &g.responses, causal: self.causal })
    }

    /// Returns the spans that have tokens, in order; a response follows its prompt.
    pub(super) fn spans(&self) -> impl Iterator<Item = QuerySpan> {
        let mut first = 0;
        self.groups
            .iter()
            .flat_map(move |group| {
                let prompt = first..first + group.prompt;
                first = prompt.end;
                let whole = QuerySpan { prefix: prompt.end..prompt.end, own: prompt.clone() };
                let mut spans = vec![whole];
                for tokens in &group.responses {
                    spans.push(QuerySpan { prefix: prompt.clone(), own: first..first + tokens });
                    first += tokens;
                }
                spans
            })
            .filter(|span| !span.own.is_empty())
    }
}

fn without_responses(length: usize) -> SharedPrompt {
    SharedPrompt { prompt: length, responses: Vec::new() }
}

impl Plan {
    pub(super) fn new(segments: &Segments, device: &Device) -> Result<Self> {
        // The tokens of the queries and of the keys, by the numbers of keys before the first query
        // and of queries.
        let mut by_lengths: BTreeMap<(usize, usize), (Vec<u32>, Vec<u32>)> = BTreeMap::new();
        for span in segments.spans() {
            let (queries, keys) = by_lengths.entry((span.prefix.len(), span.own.len())).or_default();
            queries.extend(span.own.clone().map(|i| i as u32));
            keys.extend(span.prefix.chain(span.own).map(|i| i as u32));
        }
        let in_order = by_lengths.len() == 1 && by_lengths.keys().all(|(prefix, _)| *prefix == 0);
        let mut batches = Vec::new();
        let mut order = vec![0u32; segments.tokens()];
        let mut row = 0;
        for ((prefix, own), (queries, keys)) in by_lengths {
            for token in &queries {
                order[*token as usize] = row;
                row += 1;
            }
            let mask = if segments.causal { Some(causal_mask(prefix, own, device)?) } else { None };
            let count = queries.len() / own;
            let tokens = match in_order {
                true => None,
                false => Some([Tensor::new(queries, device)?, Tensor::new(keys, device)?]),
            };
            batches.push(Batch { count, own, tokens, mask });
        }
        let order = if in_order { None } else { Some(Tensor::new(order, device)?) };
        Ok(Self { batches, order })
    }
}

/// Returns the mask of queries that see the keys before the first query up to their own.
fn causal_mask(prefix: usize, own: usize, device: &Device) -> Result<Tensor> {
    let row = |i: usize| (0..prefix + own).map(move |j| if j > prefix + i { f32::NEG_INFINITY } else { 0.0 });
    let mask: Vec<f32> = (0..own).flat_map(row).collect();
    Tensor::from_vec(mask, (own, prefix + own), device)
}
