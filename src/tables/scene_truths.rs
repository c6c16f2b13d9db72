//! `scene_truths`: what generated questions about drawn scenes ask, and their right answers.

use super::enums::QuestionVerdict;
use super::row::table;
use crate::ids::{ImageId, QuestionId};

table! {
    /// A generated question about a drawn scene, with the right answer where it has one: for evaluation, never to evolve on.
    #[table("scene_truths")]
    pub struct SceneTruthRow {
        /// The question.
        pub question_id: QuestionId,
        /// Its image.
        pub image_id: ImageId,
        /// The scene's image file, relative to the folder of the scenes; null where the image is no scene of theirs.
        pub image: Option<String>,
        /// The question, with its options.
        pub question: String,
        /// The family that it belongs to; null where it belongs to none, or to one with more than one meaning.
        pub family: Option<String>,
        /// Whether its family is a hard one; null where family is.
        pub hard: Option<bool>,
        /// What is known: answered, tie, false_premise, ambiguous, unknown or no_scene.
        pub verdict: QuestionVerdict,
        /// The right answer: a number or a letter, or `none` for a tie or a false premise; null where none can be known.
        pub answer: Option<String>,
    }
}
