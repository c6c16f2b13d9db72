//! The `scene_questions` table: questions about drawn scenes, with their right answers.

use super::enums::QuestionType;
use super::row::table;

table! {
    /// A question about a drawn scene with its right answer, for evaluation and never for
    /// evolution.
    #[table("scene_questions")]
    pub struct SceneQuestionRow {
        /// Number of the scene within its seed.
        pub scene: u64,
        /// Path of the scene's image, relative to the table's folder.
        pub image: String,
        /// Family of the question.
        pub family: String,
        /// Kind of answer that the question asks for.
        pub question_type: QuestionType,
        /// Whether its family is hard.
        pub hard: bool,
        /// Question with its options.
        pub question: String,
        /// Right answer: a number or a letter, or `none` for a tie or a false premise.
        pub answer: String,
    }
}
