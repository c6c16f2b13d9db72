//! MathVerse: a judge extracts the answer, and decides whether it is the gold.

use super::{Calls, Reply};
use crate::benchmarks::extract::choice_vlmevalkit::FAILED_CALL;
use crate::benchmarks::python::text::strip;

/// Calls of VLMEvalKit for one item and step.
const CALLS: u32 = 5;
/// Temperature is raised by this with every call that failed.
const WARMER: f64 = 0.5;
/// Label that judges repeat before an extracted answer.
const LABEL: &str = "Extracted Answer: ";

/// Returns the last words of a response, separated by single blanks; all of it for zero or less.
pub fn last_words(response: &str, words: i64) -> &str {
    let Ok(words @ 1..) = usize::try_from(words) else { return response };
    match response.rmatch_indices(' ').nth(words - 1) {
        Some((at, _)) => &response[at + 1..],
        None => response,
    }
}

/// Removes repeated labels and blanks from a judge's reply, as MathVerse's own code does.
pub fn clean_extraction(reply: &str) -> String {
    strip(&reply.replace(LABEL, "")).to_owned()
}

/// Whether an extraction is the gold, as MathVerse's own code decides without a judge.
pub fn is_quick_match(extraction: &str, gold: &str) -> bool {
    extraction == gold
}

/// Whether an extraction is the gold but for blanks around, as VLMEvalKit decides before it asks.
pub fn is_prefetched(extraction: &str, gold: &str) -> bool {
    strip(extraction) == strip(gold)
}

/// Extracts as VLMEvalKit does: the first reply of five that is not a failed call; else nothing.
pub fn extract_vlmevalkit(mut ask: impl FnMut(f64) -> Reply) -> (String, Calls) {
    let mut calls = Calls::default();
    for call in 0..CALLS {
        match calls.ask(WARMER * f64::from(call), &mut ask) {
            Reply::Text(text) if !text.contains(FAILED_CALL) => return (text, calls),
            _ => {}
        }
    }
    (String::new(), calls)
}

/// Decides as VLMEvalKit does: the first reply of five that is 0 or 1; else wrong. An extraction
/// that is the gold needs no call.
pub fn score_vlmevalkit(extraction: &str, gold: &str, mut ask: impl FnMut(f64) -> Reply) -> (bool, Calls) {
    let mut calls = Calls::default();
    if !strip(extraction).is_empty() && is_prefetched(extraction, gold) {
        return (true, calls);
    }
    for call in 0..CALLS {
        if let Reply::Text(text) = calls.ask(WARMER * f64::from(call), &mut ask) {
            match strip(&text) {
                "1" => return (true, calls),
                "0" => return (false, calls),
                _ => {}
            }
        }
    }
    (false, calls)
}
