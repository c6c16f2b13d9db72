//! `answers`: what the Reasoner answered, every sample of it, drawn for votes and for training alike.

use super::enums::Finish;
use super::row::table;
use crate::ids::{AnswerId, GroupId, ImageId, ModelId, PromptId, QuestionId};

table! {
    /// One sample of the Reasoner.
    #[table("answers")]
    pub struct AnswerRow {
        /// The sample's id.
        pub answer_id: AnswerId,
        /// The question it answers.
        pub question_id: QuestionId,
        /// The image of the question.
        pub image_id: ImageId,
        /// The samples that were drawn together from one prompt: one question, one step.
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
        /// The content of the last box; null without one.
        pub boxed_answer: Option<String>,
        /// The class of equal answers it voted for, from 0, as in `votes.class_answers`; null without a box or a vote.
        pub vote_class: Option<u32>,
    }
}

table! {
    /// Which answer it is, without what was said.
    #[view("answers")]
    pub struct AnswerKey {
        /// The sample's id.
        pub answer_id: AnswerId,
    }
}
