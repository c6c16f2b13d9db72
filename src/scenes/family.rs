//! Families of questions, with their answer types and difficulty.

use std::str::FromStr;

use crate::tables::{QuestionType, string_enum};

string_enum! {
    /// A family of questions.
    pub enum QuestionFamily("a family of questions") {
        /// How many COLOUR SHAPEs.
        CountKind = "count-kind",
        /// How many COLOUR shapes.
        CountColour = "count-colour",
        /// How many SHAPEs.
        CountShape = "count-shape",
        /// How many of a kind in a region of the image.
        CountIn = "count-in",
        /// How many of two kinds in total.
        CountTotal = "count-total",
        /// How many more of one kind than of another.
        CountMore = "count-more",
        /// How many of a kind lack a colour or shape.
        CountExcept = "count-except",
        /// How many different colours.
        CountColours = "count-colours",
        /// Is there a COLOUR SHAPE.
        Exists = "exists",
        /// Is there one of a kind in a region of the image.
        ExistsIn = "exists-in",
        /// Which colour is most common.
        MostColour = "most-colour",
        /// Which shape is most common.
        MostShape = "most-shape",
        /// Which of two kinds is more common.
        MoreOf = "more-of",
        /// The colour or the shape of the only object of a kind.
        OnlyOne = "only-one",
        /// The share of a kind that has a colour or shape, to one decimal.
        Share = "share",
    }
}

impl QuestionFamily {
    /// Returns the answer type of the family's questions.
    pub const fn question_type(self) -> QuestionType {
        match self {
            Self::CountKind
            | Self::CountColour
            | Self::CountShape
            | Self::CountIn
            | Self::CountTotal
            | Self::CountMore
            | Self::CountExcept
            | Self::CountColours => QuestionType::Numerical,
            Self::Exists | Self::ExistsIn | Self::MostColour | Self::MostShape | Self::MoreOf | Self::OnlyOne => {
                QuestionType::MultipleChoice
            }
            Self::Share => QuestionType::Regression,
        }
    }

    /// Whether a question needs more than one count.
    pub const fn is_hard(self) -> bool {
        !matches!(self, Self::CountKind | Self::CountColour | Self::CountShape | Self::Exists)
    }
}

impl FromStr for QuestionFamily {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::from_stored(text).ok_or_else(|| {
            format!("no family is called {text:?}; there are {}", Self::ALL.map(Self::as_str).join(", "))
        })
    }
}
