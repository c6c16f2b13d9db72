//! `benchmarks`: held-out questions with their right answers; and the columns of it that any benchmark must have.

use super::enums::QuestionType;
use super::images::ImageFile;
use super::row::table;
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

table! {
    /// An item of a benchmark.
    #[view("benchmark")]
    pub struct BenchmarkItem {
        /// The image's file.
        pub image: ImageFile,
        /// The question.
        pub question: String,
        /// The right answer.
        pub answer: String,
    }
}

table! {
    /// The division of an item, where the benchmark has one.
    #[view("benchmark")]
    pub struct BenchmarkCategory {
        /// A subject or family.
        pub category: String,
    }
}
