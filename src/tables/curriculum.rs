//! `curriculum`: what the Reasoner trains on: questions neither too easy nor too hard, with their pseudo-labels.

use super::enums::QuestionType;
use super::row::table;
use crate::ids::{ImageId, QuestionId};

table! {
    /// A kept training row. It has no truth: none reaches a training stage.
    #[table("curriculum")]
    pub struct CurriculumRow {
        /// The question.
        pub question_id: QuestionId,
        /// The image of the question.
        pub image_id: ImageId,
        /// The question's text.
        pub problem: String,
        /// The majority answer, taken as the label.
        pub pseudo_label: String,
        /// Share of the majority among the answers that the preset counts, 0 to 1.
        pub confidence: f64,
        /// Share of the majority less that of the runner-up, 0 to 1.
        pub margin: f64,
        /// The declared type; null where the preset's form has none.
        pub question_type: Option<QuestionType>,
    }
}
