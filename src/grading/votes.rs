//! Votes over sampled answers: classes of equal answers, the majority, its confidence.

use std::collections::HashMap;

use super::answer::Answer;

/// The outcome of a vote over the samples of one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// For each sample, the class that its answer fell into; `None` without an answer.
    pub class_of: Vec<Option<usize>>,
    /// The answer that stands for each class: the first that fell into it.
    pub classes: Vec<String>,
    /// How many answers each class has.
    pub counts: Vec<usize>,
}

/// Puts each answer into the first class whose representative it equals.
///
/// A sample without an answer (no box, or nothing in it) does not vote.
pub fn vote<S: AsRef<str>>(samples: &[Option<S>]) -> Vote {
    let mut classes: Vec<Answer> = Vec::new();
    let mut counts: Vec<usize> = Vec::new();
    // Most samples repeat an answer to the letter, and then fall where it fell.
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
    /// The largest class; of several, the one that appeared first. `None` where nobody voted.
    pub fn majority(&self) -> Option<usize> {
        let largest = self.counts.iter().max()?;
        self.counts.iter().position(|count| count == largest)
    }

    /// The answer of the largest class.
    pub fn majority_answer(&self) -> Option<&str> {
        self.majority().map(|class| self.classes[class].as_str())
    }

    /// The size of the largest class.
    pub fn majority_count(&self) -> usize {
        self.counts.iter().max().copied().unwrap_or(0)
    }

    /// The size of the second largest class.
    pub fn runner_up_count(&self) -> usize {
        let majority = self.majority();
        let others = self.counts.iter().enumerate().filter(|&(class, _)| Some(class) != majority);
        others.map(|(_, &count)| count).max().unwrap_or(0)
    }

    /// How many samples had an answer.
    pub fn answered(&self) -> usize {
        self.counts.iter().sum()
    }

    /// How many samples there were.
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
    fn nobody_voting_has_no_majority() {
        let vote = vote::<&str>(&[None, None]);
        assert_eq!((vote.majority(), vote.majority_count(), vote.runner_up_count()), (None, 0, 0));
    }
}
