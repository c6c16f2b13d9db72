//! Reward of the Reasoner: whether its answer equals the pseudo-label and its form is right.
//!
//! paper:         r = 1 if the answer equals the pseudo-label, else 0
//! released-code: r = 0.9 · correct + 0.1 · well_formed
//!
//! Source: VisPlay, arXiv 2511.15661, and its released code.

use serde::{Deserialize, Serialize};

use super::output::tidy_marks;
use crate::grading::{Answer, last_boxed};

/// Settings of the Reasoner's reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReasonerSettings {
    /// Weight of a correct answer.
    pub correct: f64,
    /// Weight of a well-formed response.
    pub form: f64,
    /// Whether to remove white space around `<`, `>` and `/` first, as the released code does.
    #[serde(default)]
    pub tidy: bool,
}

/// A reward and its parts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReasonerReward {
    /// Total reward.
    pub reward: f64,
    /// Whether the boxed answer equals the pseudo-label.
    pub correct: bool,
    /// Whether the response is a `<think>` block, a box and nothing else.
    pub well_formed: bool,
}

/// Rewards a response against the pseudo-label of its question. One without a box is not correct.
pub fn reasoner_reward(response: &str, label: &Answer, settings: &ReasonerSettings) -> ReasonerReward {
    let tidied = settings.tidy.then(|| tidy_marks(response));
    let response = tidied.as_deref().unwrap_or(response);
    let answer = last_boxed(response).filter(|answer| !answer.is_empty());
    let correct = answer.is_some_and(|answer| Answer::new(answer).compare(label).equal);
    let well_formed = has_form(response);
    let reward = settings.correct * f64::from(u8::from(correct)) + settings.form * f64::from(u8::from(well_formed));
    ReasonerReward { reward, correct, well_formed }
}

/// Matches `<think>.*?</think>\s*\\boxed\{.*?\}\s*` from end to end.
fn has_form(response: &str) -> bool {
    let Some(rest) = response.strip_prefix("<think>") else { return false };
    const CLOSE: &str = "</think>";
    rest.match_indices(CLOSE).any(|(at, _)| {
        let behind = rest[at + CLOSE.len()..].trim();
        behind.strip_prefix(r"\boxed{").is_some_and(|inner| inner.ends_with('}'))
    })
}

#[cfg(test)]
mod tests {
    use super::{has_form, reasoner_reward};
    use crate::grading::Answer;
    use crate::reward::Preset;

    #[test]
    fn a_well_formed_response_is_a_think_block_and_a_box() {
        for good in [
            r"<think>a</think>\boxed{5}",
            "<think>\n</think>\n \\boxed{\\frac{1}{2}} \n",
            r"<think></think></think>\boxed{}",
        ] {
            assert!(has_form(good), "{good}");
        }
        for bad in [
            "",
            r"\boxed{5}",
            r"<think>a</think> so \boxed{5}",
            r"<think>a</think>\boxed{5}.",
            r"x<think>a</think>\boxed{5}",
            r"<think>\boxed{5}",
        ] {
            assert!(!has_form(bad), "{bad}");
        }
    }

    #[test]
    fn presets_weigh_answer_and_form() {
        let label = Answer::new("1/2");
        let cases = [
            (r"<think>a</think>\boxed{\frac{1}{2}}", 1.0, 1.0),
            (r"\boxed{0.5}", 1.0, 0.9),
            (r"<think>a</think>\boxed{3}", 0.0, 0.1),
            ("1/2", 0.0, 0.0),
            (r"< think > a < / think > \boxed{1 / 2}", 1.0, 1.0),
            (r"\boxed{}", 0.0, 0.0),
        ];
        for (response, paper, code) in cases {
            let reward = |preset| reasoner_reward(response, &label, &Preset::named(preset).unwrap().reasoner).reward;
            assert_eq!((reward("paper"), reward("released-code")), (paper, code), "{response}");
        }
    }
}
