//! `scores`: a model's figures on the benchmarks, each with its interval.

use super::row::table;
use crate::ids::ModelId;

table! {
    /// A benchmark figure.
    #[table("scores")]
    pub struct ScoreRow {
        /// The benchmark.
        pub benchmark: String,
        /// The division of the benchmark that the figure is for; null for the whole.
        pub category: Option<String>,
        /// The weights that answered.
        pub model_id: ModelId,
        /// How answers were drawn and judged, such as greedy, sampled or majority.
        pub protocol: String,
        /// What the figure is, such as accuracy.
        pub metric: String,
        /// The figure.
        pub value: f64,
        /// Lower end of the 95 % confidence interval; null where none can be given.
        pub low: Option<f64>,
        /// Upper end of the 95 % confidence interval; null where none can be given.
        pub high: Option<f64>,
        /// Items that the figure is over.
        pub items: u32,
        /// Answers that the figure is over.
        pub answers: u64,
    }
}
