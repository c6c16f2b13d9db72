//! The `votes` table: the majority vote on each question, with pseudo-label and confidence.

use super::row::table;
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
        /// it counts
        /// none.
        pub confidence: Option<f64>,
        /// Share of the majority answer minus that of the runner-up, 0 to 1; null if confidence is.
        pub margin: Option<f64>,
        /// Greedy answer, if one was requested and had a box.
        pub greedy_answer: Option<String>,
        /// Whether the greedy answer equals the majority answer; null if none was requested.
        pub greedy_agrees: Option<bool>,
    }
}
