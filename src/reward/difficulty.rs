//! Difficulty filter: decides which voted questions enter the curriculum.
//!
//! A question is kept if τ_low <= c <= τ_high, where c is the confidence of its vote (VisPlay,
//! arXiv 2511.15661): neither trivial nor hopeless for the Reasoner.

use serde::{Deserialize, Serialize};

use super::confidence::{Denominator, confidence, margin};
use crate::grading::Vote;

/// Settings of the difficulty filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DifficultySettings {
    /// Lowest confidence kept (τ_low, inclusive).
    pub low: f64,
    /// Highest confidence kept (τ_high, inclusive).
    pub high: f64,
    /// Smallest lead of the majority over the runner-up, as a share of the same total; 0: off.
    #[serde(default)]
    pub min_margin: f64,
    /// Questions that contain one of these, ignoring case, are dropped.
    #[serde(default)]
    pub drop_question_contains: Vec<String>,
    /// Questions whose majority answer contains one of these, ignoring case, are dropped.
    #[serde(default)]
    pub drop_majority_contains: Vec<String>,
}

/// A reason why a question is dropped from the curriculum.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason", content = "detail")]
pub enum DropReason {
    /// No sample has an answer.
    NoAnswer,
    /// The question contains this text.
    QuestionContains(String),
    /// The majority answer contains this text.
    MajorityContains(String),
    /// The confidence is below the band: the samples agree too little.
    BelowBand(f64),
    /// The confidence is above the band: the samples agree too much.
    AboveBand(f64),
    /// The lead over the runner-up is too small.
    SmallMargin(f64),
}

/// Returns the confidence of a question that is kept, or the reason why it is dropped.
///
/// ```
/// use visplay::{grading::vote, reward::{self, Preset}};
/// let preset = Preset::named("paper")?;
/// let votes = vote(&[Some("4"), Some("4"), Some("5"), None]);
/// let denominator = preset.label_denominator;
/// let kept = reward::filter_question("How many dots?", &votes, denominator, &preset.difficulty);
/// assert_eq!(kept, Ok(0.5));
/// # Ok::<(), visplay::reward::PresetError>(())
/// ```
pub fn filter_question(
    question: &str,
    vote: &Vote,
    denominator: Denominator,
    settings: &DifficultySettings,
) -> Result<f64, DropReason> {
    let (Some(answer), Some(confidence)) = (vote.majority_answer(), confidence(vote, denominator)) else {
        return Err(DropReason::NoAnswer);
    };
    let reason = if let Some(word) = first_contained(question, &settings.drop_question_contains) {
        DropReason::QuestionContains(word)
    } else if let Some(word) = first_contained(answer, &settings.drop_majority_contains) {
        DropReason::MajorityContains(word)
    } else if confidence < settings.low {
        DropReason::BelowBand(confidence)
    } else if confidence > settings.high {
        DropReason::AboveBand(confidence)
    } else if let Some(margin) = margin(vote, denominator).filter(|&margin| margin < settings.min_margin) {
        DropReason::SmallMargin(margin)
    } else {
        return Ok(confidence);
    };
    Err(reason)
}

fn first_contained(text: &str, words: &[String]) -> Option<String> {
    let text = text.to_lowercase();
    words.iter().find(|word| text.contains(&word.to_lowercase())).cloned()
}

#[cfg(test)]
mod tests {
    use super::{DropReason, filter_question};
    use crate::grading::{Vote, vote};
    use crate::reward::{Denominator, Preset};

    fn votes(yes: usize, no: usize, silent: usize) -> Vote {
        let samples = [vec![Some("yes"); yes], vec![Some("no"); no], vec![None; silent]].concat();
        vote(&samples)
    }

    #[test]
    fn both_ends_of_the_band_are_included() {
        let code = Preset::named("released-code").unwrap();
        let ask = |yes, no| filter_question("q", &votes(yes, no, 0), Denominator::Answered, &code.difficulty);
        assert_eq!(ask(8, 2), Ok(0.8));
        assert_eq!(ask(9, 1), Err(DropReason::AboveBand(0.9)));
        let three = vote(&["a", "b", "c", "d", "e", "f", "g", "a", "a", "h"].map(Some));
        assert_eq!(filter_question("q", &three, Denominator::Answered, &code.difficulty), Ok(0.3));
    }

    #[test]
    fn a_question_without_answers_is_dropped() {
        let paper = Preset::named("paper").unwrap();
        let kept = filter_question("q", &votes(0, 0, 4), Denominator::Sampled, &paper.difficulty);
        assert_eq!(kept, Err(DropReason::NoAnswer));
    }

    #[test]
    fn texts_and_margins_drop_questions() {
        let code = Preset::named("released-code").unwrap();
        let kept =
            |question: &str, vote: &Vote| filter_question(question, vote, Denominator::Answered, &code.difficulty);
        assert_eq!(kept("What is in the Box?", &votes(3, 2, 0)), Err(DropReason::QuestionContains("box".into())));
        let text = vote(&[Some(r"\Text{cm} 4"), Some(r"\Text{cm} 4"), Some("7")]);
        assert_eq!(kept("q", &text), Err(DropReason::MajorityContains("text".into())));
        let mut settings = code.difficulty.clone();
        settings.min_margin = 0.3;
        let vote = votes(3, 2, 0);
        assert_eq!(filter_question("q", &vote, Denominator::Answered, &settings), Err(DropReason::SmallMargin(0.2)));
    }
}
