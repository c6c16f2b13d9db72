//! The `scene_truths` table: generated questions about drawn scenes, with their right answers.

use super::enums::QuestionVerdict;
use super::row::table;
use crate::ids::{ImageId, QuestionId};

table! {
    /// A generated question about a drawn scene with its right answer if it has one, for evaluation
    /// and never for evolution.
    #[table("scene_truths")]
    pub struct SceneTruthRow {
        /// Id of the question.
        pub question_id: QuestionId,
        /// Id of its image.
        pub image_id: ImageId,
        /// Path of the scene's image, relative to the scenes' folder; null if the image is not one
        /// of them.
        pub image: Option<String>,
        /// Question with its options.
        pub question: String,
        /// Family that it belongs to; null if it belongs to none or is ambiguous.
        pub family: Option<String>,
        /// Whether its family is hard; null if the family is.
        pub hard: Option<bool>,
        /// Verdict of the scene oracle: answered, tie, false_premise, ambiguous, unknown or
        /// no_scene.
        pub verdict: QuestionVerdict,
        /// Right answer: a number or a letter, or `none` for a tie or a false premise; null if
        /// unknown.
        pub answer: Option<String>,
    }
}
