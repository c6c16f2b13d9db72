//! The `votes` table: the majority vote on each question, with pseudo-label and confidence.

use super::row::table;
use crate::grading::Vote;
use crate::ids::{ImageId, QuestionId};

table! {
    /// The vote on a question, with its answers grouped by equality.
    #[table("votes")]
    pub struct VoteRow {
        /// Id of the question.
        pub question_id: QuestionId,
        /// Id of the question's image.
        pub image_id: ImageId,
        /// Number of sampled answers.
        pub sampled: u32,
        /// Number of answers with a box, which are those that vote.
        pub boxed: u32,
        /// Classes of equal answers, each by its first member, in order of appearance.
        pub class_answers: Vec<String>,
        /// Number of votes for each class.
        pub class_counts: Vec<u32>,
        /// Pseudo-label: the first of the largest classes; null if no answer has a box.
        pub majority_answer: Option<String>,
        /// Number of votes for the majority answer.
        pub majority_count: u32,
        /// Number of votes for the second class; 0 without one.
        pub runner_up_count: u32,
        /// Share of the majority answer among the answers that the preset counts, 0 to 1; null if
        /// it counts none.
        pub confidence: Option<f64>,
        /// Share of the majority answer minus that of the runner-up, 0 to 1; null if confidence is.
        pub margin: Option<f64>,
        /// Greedy answer, if one was requested and had a box.
        pub greedy_answer: Option<String>,
        /// Whether the greedy answer equals the majority answer; null if none was requested.
        pub greedy_agrees: Option<bool>,
    }
}

impl From<&VoteRow> for Vote {
    /// Returns the stored vote. A row does not say which sample voted for which class, so the
    /// samples are in the order of their classes, those without an answer last.
    fn from(row: &VoteRow) -> Self {
        let counts: Vec<usize> = row.class_counts.iter().map(|&count| count as usize).collect();
        let members = counts.iter().enumerate().flat_map(|(class, &count)| std::iter::repeat_n(Some(class), count));
        let mut class_of: Vec<Option<usize>> = members.collect();
        class_of.resize((row.sampled as usize).max(class_of.len()), None);
        Self { class_of, classes: row.class_answers.clone(), counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Digest;

    #[test]
    fn a_stored_vote_has_the_counts_of_the_original() {
        let row = VoteRow {
            question_id: QuestionId(Digest::of(b"question")),
            image_id: ImageId(Digest::of(b"image")),
            sampled: 6,
            boxed: 4,
            class_answers: vec!["0".into(), "1".into()],
            class_counts: vec![3, 1],
            majority_answer: Some("0".into()),
            majority_count: 3,
            runner_up_count: 1,
            confidence: None,
            margin: None,
            greedy_answer: None,
            greedy_agrees: None,
        };
        let vote = Vote::from(&row);
        assert_eq!((vote.sampled(), vote.answered(), vote.majority_count(), vote.runner_up_count()), (6, 4, 3, 1));
    }
}
