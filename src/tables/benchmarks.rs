//! The `benchmarks` table of held-out questions.

use super::enums::QuestionType;
use super::images::ImageFile;
use super::row::table;
use crate::ids::ItemId;

table! {
    /// An item of a benchmark.
    #[table("benchmarks")]
    pub struct BenchmarkRow {
        /// Id of the item.
        pub item_id: ItemId,
        /// The benchmark's own category, such as a subject or family; null without one.
        pub category: Option<String>,
        /// Image file: bytes and name. Never null, though declared nullable, as in `images`.
        pub image: ImageFile,
        /// Kind of answer that the question asks for.
        pub question_type: QuestionType,
        /// Question with its options.
        pub question: String,
        /// Right answer.
        pub answer: String,
    }
}

table! {
    /// The columns of a benchmark item that a model is given or graded by.
    #[view("benchmark")]
    pub struct BenchmarkItem {
        /// Image file.
        pub image: ImageFile,
        /// Question.
        pub question: String,
        /// Right answer.
        pub answer: String,
    }
}
