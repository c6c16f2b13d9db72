//! Benchmarks that others made: Parquet files with an image, a question and the right answer in each row.

use super::images::ImageFile;
use super::row::table;

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
