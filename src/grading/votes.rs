//! Votes over sampled answers: classes of equal answers and the majority.

use std::collections::HashMap;

use super::answer::Answer;

/// Outcome of a vote over the samples of one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// Class of each sample's answer; `None` without an answer.
    pub class_of: Vec<Option<usize>>,
    /// Representative of each class: its first answer.
    pub classes: Vec<String>,
    /// Number of answers in each class.
    pub counts: Vec<usize>,
}

/// Assigns each answer to the first class whose representative it equals.
///
/// A sample without an answer (no box, or an empty one) does not vote.
pub fn vote<S: AsRef<str>>(samples: &[Option<S>]) -> Vote {
    let mut classes: Vec<Answer> = Vec::new();
    let mut counts: Vec<usize> = Vec::new();
    // Most samples repeat an earlier answer literally and belong to its class.
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut class_of = Vec::with_capacity(samples.len());
    for sample in samples {
        let text = sample.as_ref().map(AsRef::as_ref).filter(|text| !text.is_empty());
        class_of.push(text.map(|text| {
            let class = *seen.entry(text).or_insert_with(|| {
                let answer = Answer::new(text);
                classes.iter().position(|class| answer.compare(class).equal).unwrap_or_else(|| {
                    classes.push(answer);
                    counts.push(0);
                    classes.len() - 1
                })
            });
            counts[class] += 1;
            class
        }));
    }
    Vote { class_of, classes: classes.iter().map(|class| class.text().to_owned()).collect(), counts }
}

impl Vote {
    /// Returns the largest class; among equals, the first. `None` if no sample has an answer.
    pub fn majority(&self) -> Option<usize> {
        let largest = self.counts.iter().max()?;
        self.counts.iter().position(|count| count == largest)
    }

    /// Returns the representative of the largest class.
    pub fn majority_answer(&self) -> Option<&str> {
        self.majority().map(|class| self.classes[class].as_str())
    }

    /// Returns the size of the largest class.
    pub fn majority_count(&self) -> usize {
        self.counts.iter().max().copied().unwrap_or(0)
    }

    /// Returns the size of the second largest class.
    pub fn runner_up_count(&self) -> usize {
        let majority = self.majority();
        let others = self.counts.iter().enumerate().filter(|&(class, _)| Some(class) != majority);
        others.map(|(_, &count)| count).max().unwrap_or(0)
    }

    /// Returns the number of samples with an answer.
    pub fn answered(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Returns the number of samples.
    pub fn sampled(&self) -> usize {
        self.class_of.len()
    }
}

#[cfg(test)]
mod tests {
    use super::vote;

    #[test]
    fn the_largest_class_wins() {
        let vote = vote(&[Some("1/2"), None, Some("B"), Some("0.5"), Some(""), Some(r"\text{B}"), Some("(b)")]);
        assert_eq!(vote.class_of, [Some(0), None, Some(1), Some(0), None, Some(1), Some(1)]);
        assert_eq!((vote.majority_answer(), vote.majority_count(), vote.runner_up_count()), (Some("B"), 3, 2));
        assert_eq!((vote.answered(), vote.sampled()), (5, 7));
    }

    #[test]
    fn ties_go_to_the_class_that_came_first() {
        assert_eq!(vote(&[Some("2"), Some("1"), Some("1"), Some("2")]).majority_answer(), Some("2"));
    }

    #[test]
    fn without_answers_there_is_no_majority() {
        let vote = vote::<&str>(&[None, None]);
        assert_eq!((vote.majority(), vote.majority_count(), vote.runner_up_count()), (None, 0, 0));
    }
}
