//! `votes`: the answers to one question, grouped by equality: the pseudo-label and its confidence.

use super::row::table;
use crate::ids::{ImageId, QuestionId};

table! {
    /// A question's vote.
    #[table("votes")]
    pub struct VoteRow {
        /// The question.
        pub question_id: QuestionId,
        /// The image of the question.
        pub image_id: ImageId,
        /// Answers sampled.
        pub sampled: u32,
        /// Answers with a box: those that vote.
        pub boxed: u32,
        /// The classes of equal answers, each by its first member, in order of appearance.
        pub class_answers: Vec<String>,
        /// Votes for each class.
        pub class_counts: Vec<u32>,
        /// The pseudo-label: the first of the largest classes; null when nothing was boxed.
        pub majority_answer: Option<String>,
        /// Votes for the majority answer.
        pub majority_count: u32,
        /// Votes for the second class; 0 without one.
        pub runner_up_count: u32,
        /// Share of the majority among the answers that the preset counts, 0 to 1; null when it counts none.
        pub confidence: Option<f64>,
        /// Share of the majority less that of the runner-up, 0 to 1; null where confidence is.
        pub margin: Option<f64>,
        /// The greedy answer, where one was asked for and had a box.
        pub greedy_answer: Option<String>,
        /// Whether the greedy answer equals the majority answer; null where none was asked for.
        pub greedy_agrees: Option<bool>,
    }
}
