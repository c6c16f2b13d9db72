//! `benchmarks`: held-out questions with their right answers.

use super::images::ImageFile;
use super::row::table;
use super::words::QuestionType;
use crate::ids::ItemId;

table! {
    /// An item of a benchmark.
    #[table("benchmarks")]
    pub struct BenchmarkRow {
        /// The item's id.
        pub item_id: ItemId,
        /// The benchmark's own division, such as a subject or family; null without one.
        pub category: Option<String>,
        /// The image: its file's bytes and its name. Never null, though declared so, as in `images`.
        pub image: ImageFile,
        /// What kind of answer the question wants.
        pub question_type: QuestionType,
        /// The question, with its options.
        pub question: String,
        /// The right answer.
        pub answer: String,
    }
}
