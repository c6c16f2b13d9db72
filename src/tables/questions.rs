//! The `questions` table: all samples of the Questioner.

use super::enums::{Finish, QuestionType};
use super::row::table;
use crate::ids::{GroupId, ImageId, ModelId, PromptId, QuestionId};

table! {
    /// A sample of the Questioner.
    #[table("questions")]
    pub struct QuestionRow {
        /// Id of the sample.
        pub question_id: QuestionId,
        /// Id of the image that the Questioner saw.
        pub image_id: ImageId,
        /// The group of samples from one prompt: one image in one step.
        pub group_id: GroupId,
        /// Index of the sample in its group, from 0.
        pub sample: u32,
        /// Seed of the stage. The random stream of a sample is keyed by seed, stage, row and
        /// sample.
        pub seed: u64,
        /// Id of the prompt template.
        pub prompt_id: PromptId,
        /// Id of the weights that sampled.
        pub model_id: ModelId,
        /// Length of the prompt in tokens, including image tokens.
        pub prompt_tokens: u32,
        /// Text of the sample without special tokens.
        pub raw_text: String,
        /// Sampled tokens, including the one that ended the sample.
        pub token_ids: Vec<u32>,
        /// Log-probability (natural logarithm) of each token when sampled: temperature-scaled,
        /// before top-k and top-p.
        pub logprobs: Vec<f32>,
        /// Reason why the sample ended: stop, stop_string or length.
        pub finish: Finish,
        /// Whether the text is in the format that its preset requires.
        pub valid: bool,
        /// Reason why it is not valid, as a stable code; null if it is.
        pub invalid_reason: Option<String>,
        /// Declared type; null if the format has none or the text is not valid.
        pub question_type: Option<QuestionType>,
        /// Text of the question; null if the sample is not valid.
        pub question: Option<String>,
        /// Answer that the Questioner claims, never used in training; null if the format has none
        /// or the text is not valid.
        pub claimed_answer: Option<String>,
    }
}

table! {
    /// Id and image of a question, without its contents.
    #[view("questions")]
    pub struct QuestionKey {
        /// Id of the sample.
        pub question_id: QuestionId,
        /// Id of the image that the Questioner saw.
        pub image_id: ImageId,
    }
}
