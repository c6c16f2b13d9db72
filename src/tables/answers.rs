//! The `answers` table: all samples of the Reasoner, for votes and for training.

use super::enums::Finish;
use super::row::table;
use crate::ids::{AnswerId, GroupId, ImageId, ModelId, PromptId, QuestionId};

table! {
    /// A sample of the Reasoner.
    #[table("answers")]
    pub struct AnswerRow {
        /// Id of the sample.
        pub answer_id: AnswerId,
        /// Id of the question that it answers.
        pub question_id: QuestionId,
        /// Id of the question's image.
        pub image_id: ImageId,
        /// The group of samples from one prompt: one question in one step.
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
        /// Content of the last box; null without a box.
        pub boxed_answer: Option<String>,
        /// Index of the class of equal answers that it voted for, as in `votes.class_answers`; null
        /// without a box or a vote.
        pub vote_class: Option<u32>,
    }
}

table! {
    /// Id of an answer, without its contents.
    #[view("answers")]
    pub struct AnswerKey {
        /// Id of the sample.
        pub answer_id: AnswerId,
    }
}
