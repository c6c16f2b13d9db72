//! `predictions`: a model's answers to the items of a benchmark, and how each was judged.

use super::enums::Finish;
use super::row::table;
use crate::ids::{ImageId, ItemId, ModelId, PromptId};

table! {
    /// One answer to a benchmark item.
    #[table("predictions")]
    pub struct PredictionRow {
        /// The benchmark.
        pub benchmark: String,
        /// The item.
        pub item_id: ItemId,
        /// The benchmark's own division, such as a subject or family; null without one.
        pub category: Option<String>,
        /// The item's image; null without one.
        pub image_id: Option<ImageId>,
        /// The weights that answered.
        pub model_id: ModelId,
        /// The prompt template.
        pub prompt_id: PromptId,
        /// How answers are drawn and judged, such as greedy or sampled.
        pub protocol: String,
        /// Number of the answer, from 0, where the protocol draws several.
        pub sample: u32,
        /// The item's question.
        pub question: String,
        /// The text of the answer, special tokens left out.
        pub response: String,
        /// The tokens that were sampled, the one that ended the answer included.
        pub token_ids: Vec<u32>,
        /// For each token its log-probability (natural logarithm), temperature-scaled, before top-k and top-p.
        pub logprobs: Vec<f32>,
        /// Why the answer ended: stop, stop_string or length.
        pub finish: Finish,
        /// The answer that was found in the response; null when none was.
        pub extracted_answer: Option<String>,
        /// The right answer; null where the judge has another measure.
        pub gold: Option<String>,
        /// Whether the judge took the answer for right; null where only a mark is given.
        pub correct: Option<bool>,
        /// The judge's mark, 0 to 1.
        pub mark: f64,
        /// Who judged: the grader, or a model by name.
        pub judge: String,
        /// Why the judge decided so: the grader's rule, or a model's words.
        pub judge_reason: String,
    }
}

table! {
    /// Which item was answered, without the answer.
    #[view("predictions")]
    pub struct PredictionKey {
        /// The item.
        pub item_id: ItemId,
    }
}
