//! The `curriculum` table: questions of suitable difficulty with pseudo-labels, which the Reasoner
//! trains on.

use super::enums::QuestionType;
use super::row::table;
use crate::ids::{ImageId, QuestionId};

table! {
    /// A training row of the Reasoner. It has no ground truth, which never reaches a training
    /// stage.
    #[table("curriculum")]
    pub struct CurriculumRow {
        /// Id of the question.
        pub question_id: QuestionId,
        /// Id of the question's image.
        pub image_id: ImageId,
        /// Text of the question.
        pub problem: String,
        /// Majority answer, used as the label.
        pub pseudo_label: String,
        /// Share of the majority answer among the answers that the preset counts, 0 to 1.
        pub confidence: f64,
        /// Share of the majority answer minus that of the runner-up, 0 to 1.
        pub margin: f64,
        /// Declared type; null if the preset's question format has none.
        pub question_type: Option<QuestionType>,
    }
}
