//! `questions`: what the Questioner said about the images, every sample of it.

use super::enums::{Finish, QuestionType};
use super::row::table;
use crate::ids::{GroupId, ImageId, ModelId, PromptId, QuestionId};

table! {
    /// One sample of the Questioner.
    #[table("questions")]
    pub struct QuestionRow {
        /// The sample's id.
        pub question_id: QuestionId,
        /// The image it was shown.
        pub image_id: ImageId,
        /// The samples that were drawn together from one prompt: one image, one step.
        pub group_id: GroupId,
        /// Number of the sample in its group, from 0.
        pub sample: u32,
        /// The seed of the stage. The stream of random numbers is keyed by it, the stage, the row and the sample's number.
        pub seed: u64,
        /// The prompt template.
        pub prompt_id: PromptId,
        /// The weights that sampled.
        pub model_id: ModelId,
        /// Length of the prompt in tokens, those of the image included.
        pub prompt_tokens: u32,
        /// The text of the sample, special tokens left out.
        pub raw_text: String,
        /// The tokens that were sampled, the one that ended the sample included.
        pub token_ids: Vec<u32>,
        /// For each token its log-probability (natural logarithm) when it was sampled: temperature-scaled, before top-k and top-p.
        pub logprobs: Vec<f32>,
        /// Why the sample ended: stop, stop_string or length.
        pub finish: Finish,
        /// Whether the text has the form that its preset asks for.
        pub valid: bool,
        /// Why it is not valid, as a stable word; null when it is.
        pub invalid_reason: Option<String>,
        /// The declared type; null where the form has none or the text is not valid.
        pub question_type: Option<QuestionType>,
        /// The question; null when the text is not valid.
        pub question: Option<String>,
        /// The answer that the Questioner claims, never used to train; null where the form has none or the text is not valid.
        pub claimed_answer: Option<String>,
    }
}

table! {
    /// Which question it is, without what was said.
    #[view("questions")]
    pub struct QuestionKey {
        /// The sample's id.
        pub question_id: QuestionId,
        /// The image it was shown.
        pub image_id: ImageId,
    }
}
