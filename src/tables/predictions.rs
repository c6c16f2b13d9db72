//! The `predictions` table: a model's answers to benchmark items, with the judge's decisions.

use super::enums::Finish;
use super::row::table;
use crate::ids::{ImageId, ItemId, ModelId, PromptId};

table! {
    /// An answer to a benchmark item.
    #[table("predictions")]
    pub struct PredictionRow {
        /// Name of the benchmark.
        pub benchmark: String,
        /// Id of the item.
        pub item_id: ItemId,
        /// The benchmark's own category, such as a subject or family; null without one.
        pub category: Option<String>,
        /// Id of the item's image; null without an image.
        pub image_id: Option<ImageId>,
        /// Id of the weights that answered.
        pub model_id: ModelId,
        /// Id of the prompt template.
        pub prompt_id: PromptId,
        /// Protocol by which answers are sampled and judged, such as greedy or sampled.
        pub protocol: String,
        /// Index of the answer, from 0, if the protocol samples several.
        pub sample: u32,
        /// Question of the item.
        pub question: String,
        /// Text of the answer without special tokens.
        pub response: String,
        /// Sampled tokens, including the one that ended the answer.
        pub token_ids: Vec<u32>,
        /// Log-probability (natural logarithm) of each token when sampled: temperature-scaled,
        /// before top-k and top-p.
        pub logprobs: Vec<f32>,
        /// Reason why the answer ended: stop, stop_string or length.
        pub finish: Finish,
        /// Answer extracted from the response; null if none was found.
        pub extracted_answer: Option<String>,
        /// Right answer; null if the judge does not compare with one.
        pub gold: Option<String>,
        /// Whether the judge accepted the answer; null if it only gives a mark.
        pub correct: Option<bool>,
        /// Mark by the judge, 0 to 1.
        pub mark: f64,
        /// Judge: the grader, or the name of a model.
        pub judge: String,
        /// Reason for the decision: the grader's rule, or a model's text.
        pub judge_reason: String,
    }
}

table! {
    /// Id of the item that was answered, without the answer.
    #[view("predictions")]
    pub struct PredictionKey {
        /// Id of the item.
        pub item_id: ItemId,
    }
}

table! {
    /// Answer extracted from a response, and what the response answers.
    #[view("predictions")]
    pub struct PredictionBox {
        /// Name of the benchmark.
        pub benchmark: String,
        /// The benchmark's own category; null without one.
        pub category: Option<String>,
        /// Id of the weights that answered.
        pub model_id: ModelId,
        /// Protocol by which answers are sampled and judged.
        pub protocol: String,
        /// Answer extracted from the response; null if none was found.
        pub extracted_answer: Option<String>,
    }
}
