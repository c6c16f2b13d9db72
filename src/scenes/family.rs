//! Families of questions, with their answer types and difficulty.

use std::fmt;
use std::str::FromStr;

use crate::tables::QuestionType;

/// A family of questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuestionFamily {
    /// How many COLOUR SHAPEs.
    CountKind,
    /// How many COLOUR shapes.
    CountColour,
    /// How many SHAPEs.
    CountShape,
    /// How many of a kind in a region of the image.
    CountIn,
    /// How many of two kinds in total.
    CountTotal,
    /// How many more of one kind than of another.
    CountMore,
    /// How many of a kind lack a colour or shape.
    CountExcept,
    /// How many different colours.
    CountColours,
    /// Is there a COLOUR SHAPE.
    Exists,
    /// Is there one of a kind in a region of the image.
    ExistsIn,
    /// Which colour is most common.
    MostColour,
    /// Which shape is most common.
    MostShape,
    /// Which of two kinds is more common.
    MoreOf,
    /// The colour or the shape of the only object of a kind.
    OnlyOne,
    /// The share of a kind that has a colour or shape, to one decimal.
    Share,
}

impl QuestionFamily {
    /// Every family.
    pub const ALL: [Self; 15] = [
        Self::CountKind,
        Self::CountColour,
        Self::CountShape,
        Self::CountIn,
        Self::CountTotal,
        Self::CountMore,
        Self::CountExcept,
        Self::CountColours,
        Self::Exists,
        Self::ExistsIn,
        Self::MostColour,
        Self::MostShape,
        Self::MoreOf,
        Self::OnlyOne,
        Self::Share,
    ];

    /// Returns the family's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CountKind => "count-kind",
            Self::CountColour => "count-colour",
            Self::CountShape => "count-shape",
            Self::CountIn => "count-in",
            Self::CountTotal => "count-total",
            Self::CountMore => "count-more",
            Self::CountExcept => "count-except",
            Self::CountColours => "count-colours",
            Self::Exists => "exists",
            Self::ExistsIn => "exists-in",
            Self::MostColour => "most-colour",
            Self::MostShape => "most-shape",
            Self::MoreOf => "more-of",
            Self::OnlyOne => "only-one",
            Self::Share => "share",
        }
    }

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

impl fmt::Display for QuestionFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for QuestionFamily {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|family| family.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|family| family.name()).collect();
            format!("no family is called {text:?}; there are {}", names.join(", "))
        })
    }
}
