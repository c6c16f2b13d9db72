//! Confidence of a vote, and the rule for which samples its denominator counts.

use serde::{Deserialize, Serialize};

use crate::grading::Vote;

/// The samples that the denominator of a confidence counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Denominator {
    /// All samples, including those without an answer.
    Sampled,
    /// The samples that have an answer.
    Answered,
}

impl Denominator {
    /// Returns the number of samples of a vote that count.
    pub fn count(self, vote: &Vote) -> usize {
        match self {
            Self::Sampled => vote.sampled(),
            Self::Answered => vote.answered(),
        }
    }
}

/// Returns the confidence c of a vote: the share of the majority.
///
/// `None` if the denominator is 0. A vote without any answer has confidence 0 over
/// [`Denominator::Sampled`] and none over [`Denominator::Answered`].
pub fn confidence(vote: &Vote, denominator: Denominator) -> Option<f64> {
    share(vote.majority_count(), vote, denominator)
}

/// Returns the majority's lead over the runner-up, as a share of the same denominator.
pub fn margin(vote: &Vote, denominator: Denominator) -> Option<f64> {
    share(vote.majority_count() - vote.runner_up_count(), vote, denominator)
}

fn share(count: usize, vote: &Vote, denominator: Denominator) -> Option<f64> {
    let samples = denominator.count(vote);
    (samples > 0).then(|| count as f64 / samples as f64)
}

#[cfg(test)]
mod tests {
    use super::{Denominator, confidence};
    use crate::grading::vote;

    #[test]
    fn denominators_differ_where_a_sample_has_no_answer() {
        let half = vote(&[Some("yes"), Some("yes"), Some("yes"), Some("no"), None, None, None, None]);
        assert_eq!(confidence(&half, Denominator::Sampled), Some(0.375));
        assert_eq!(confidence(&half, Denominator::Answered), Some(0.75));
        let silent = vote::<&str>(&[None, None, None, None]);
        assert_eq!(confidence(&silent, Denominator::Sampled), Some(0.0));
        assert_eq!(confidence(&silent, Denominator::Answered), None);
    }
}
