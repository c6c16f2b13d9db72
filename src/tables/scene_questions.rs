//! `scene_questions`: questions about drawn scenes, with their right answers.

use super::enums::QuestionType;
use super::row::table;

table! {
    /// A question about a drawn scene, with the right answer: for evaluation, never to evolve on.
    #[table("scene_questions")]
    pub struct SceneQuestionRow {
        /// The scene's number in its seed.
        pub scene: u64,
        /// The scene's image file, relative to the table's folder.
        pub image: String,
        /// The question's family.
        pub family: String,
        /// What kind of answer it wants.
        pub question_type: QuestionType,
        /// Whether its family is a hard one.
        pub hard: bool,
        /// The question, with its options.
        pub question: String,
        /// The right answer: a number or a letter, or `none` for a tie or a false premise.
        pub answer: String,
    }
}
