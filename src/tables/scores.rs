//! The `scores` table: a model's benchmark scores with confidence intervals.

use super::row::table;
use crate::ids::ModelId;

table! {
    /// A benchmark score.
    #[table("scores")]
    pub struct ScoreRow {
        /// Name of the benchmark.
        pub benchmark: String,
        /// Category of the benchmark that the score is for; null for the whole benchmark.
        pub category: Option<String>,
        /// Id of the weights that answered.
        pub model_id: ModelId,
        /// Protocol by which answers were sampled and judged, such as greedy, sampled or majority.
        pub protocol: String,
        /// Name of the metric, such as accuracy.
        pub metric: String,
        /// Value of the metric.
        pub value: f64,
        /// Lower end of the 95 % confidence interval; null if there is none.
        pub low: Option<f64>,
        /// Upper end of the 95 % confidence interval; null if there is none.
        pub high: Option<f64>,
        /// Number of items that were scored.
        pub items: u32,
        /// Number of answers that were scored.
        pub answers: u64,
    }
}
