//! The `demonstrations` table: prompts with responses for the warm start, in training order.

use super::image_link::ImageLink;
use super::row::table;

table! {
    /// A prompt about an image with the response to learn. Rows are in training order, and those of
    /// an image are adjacent.
    #[table("demonstrations")]
    pub struct DemonstrationRow {
        /// Number of the scene within its seed.
        pub scene: u64,
        /// Image. If its bytes are null, its path is relative to the table's folder.
        pub image: ImageLink,
        /// System text of the prompt.
        pub system: String,
        /// User text of the prompt.
        pub prompt: String,
        /// Response. Only its tokens and the end of the turn are trained on.
        pub response: String,
        /// Kind of demonstration: describe, look-first, straight or ask.
        pub style: String,
        /// Family of the question that is answered or asked; null for a description.
        pub family: Option<String>,
        /// Whether the answer is wrong on purpose.
        pub wrong: bool,
    }
}

table! {
    /// The required columns of a table of demonstrations, which may have more.
    #[view("demonstrations")]
    pub struct Demonstration {
        /// Image.
        pub image: ImageLink,
        /// User text of the prompt.
        pub prompt: String,
        /// Response to learn.
        pub response: String,
    }
}

table! {
    /// The optional column of a table of demonstrations.
    #[view("demonstrations")]
    pub struct DemonstrationSystem {
        /// System text of the prompt.
        pub system: String,
    }
}
