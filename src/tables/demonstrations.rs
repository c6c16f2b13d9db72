//! `demonstrations`: what the warm start learns from, in training order.

use super::image_link::ImageLink;
use super::row::table;

table! {
    /// A prompt about an image with the response to learn. Rows are in training order, those of an image together.
    #[table("demonstrations")]
    pub struct DemonstrationRow {
        /// The scene's number in its seed.
        pub scene: u64,
        /// The image. Where its bytes are null, its path is a file relative to the table's folder.
        pub image: ImageLink,
        /// The system text of the prompt.
        pub system: String,
        /// What is asked about the image.
        pub prompt: String,
        /// The response: only its tokens, and the end of the turn, are learnt.
        pub response: String,
        /// What is demonstrated: describe, look-first, straight or ask.
        pub style: String,
        /// The family of the question that is answered or asked; null for a description.
        pub family: Option<String>,
        /// Whether the answer was made wrong on purpose.
        pub wrong: bool,
    }
}

table! {
    /// The columns that a table of demonstrations must have; others may stand beside them.
    #[view("demonstrations")]
    pub struct Demonstration {
        /// The image.
        pub image: ImageLink,
        /// What is asked about it.
        pub prompt: String,
        /// The response to learn.
        pub response: String,
    }
}

table! {
    /// The column that a table of demonstrations may have.
    #[view("demonstrations")]
    pub struct DemonstrationSystem {
        /// The system text of the prompt.
        pub system: String,
    }
}
