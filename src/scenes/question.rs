//! A question about a scene as data, and its text.

use std::fmt;

use super::family::Family;
use super::kind::{Attribute, Colour, Kind, Region, Shape};

/// The letters of options.
pub(super) const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// A question that [`truth`](super::truth) can answer. Its text is its [`Display`](fmt::Display).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// How many there are of a kind.
    Count(Kind),
    /// How many of a kind lie in a part of the picture.
    CountIn(Kind, Region),
    /// How many there are of two kinds, which must not overlap.
    Total(Kind, Kind),
    /// How many more there are of the first kind than of the second.
    More(Kind, Kind),
    /// How many of a kind lack an attribute, which the kind must leave open.
    Except(Kind, Attribute),
    /// How many colours there are, of all objects or of those of a shape.
    Colours(Option<Shape>),
    /// Whether there is one of a kind, anywhere or in a part of the picture. Yes stands first, or no.
    Exists(Kind, Option<Region>, bool),
    /// Which colour is most common among a kind without a colour; at least two different options.
    MostColour(Kind, Vec<Colour>),
    /// Which shape is most common among a kind without a shape; at least two different options.
    MostShape(Kind, Vec<Shape>),
    /// Of which kind there are more: option A or option B.
    MoreOf(Kind, Kind),
    /// The colour of the only object of a shape; at least two different options.
    OnlyColour(Shape, Vec<Colour>),
    /// The shape of the only object of a colour; at least two different options.
    OnlyShape(Colour, Vec<Shape>),
    /// The share of a kind that has an attribute, which the kind must leave open, to one decimal.
    Share(Kind, Attribute),
}

impl Question {
    /// The family it belongs to.
    pub fn family(&self) -> Family {
        match self {
            Self::Count(Kind { colour: Some(_), shape: Some(_) }) => Family::CountKind,
            Self::Count(Kind { colour: Some(_), shape: None }) => Family::CountColour,
            Self::Count(_) => Family::CountShape,
            Self::CountIn(..) => Family::CountIn,
            Self::Total(..) => Family::CountTotal,
            Self::More(..) => Family::CountMore,
            Self::Except(..) => Family::CountExcept,
            Self::Colours(_) => Family::CountColours,
            Self::Exists(_, None, _) => Family::Exists,
            Self::Exists(_, Some(_), _) => Family::ExistsIn,
            Self::MostColour(..) => Family::MostColour,
            Self::MostShape(..) => Family::MostShape,
            Self::MoreOf(..) => Family::MoreOf,
            Self::OnlyColour(..) | Self::OnlyShape(..) => Family::OnlyOne,
            Self::Share(..) => Family::Share,
        }
    }

    /// The number of its options; 0 where it has none.
    pub(super) fn options(&self) -> usize {
        match self {
            Self::Exists(..) | Self::MoreOf(..) => 2,
            Self::MostColour(_, options) | Self::OnlyColour(_, options) => options.len(),
            Self::MostShape(_, options) | Self::OnlyShape(_, options) => options.len(),
            _ => 0,
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(kind) => write!(f, "How many {} are there?", kind.plural()),
            Self::CountIn(kind, region) => write!(f, "How many {} are in {region}?", kind.plural()),
            Self::Total(a, b) => write!(f, "How many {} and {} are there in total?", a.plural(), b.plural()),
            Self::More(a, b) => write!(f, "How many more {} than {} are there?", a.plural(), b.plural()),
            Self::Except(kind, attribute) => write!(f, "How many {} are not {}?", kind.plural(), attribute.word()),
            Self::Colours(None) => f.write_str("How many different colours are there?"),
            Self::Colours(Some(shape)) => write!(f, "How many different colours do the {} have?", shape.plural()),
            Self::Exists(kind, region, yes_first) => {
                write!(f, "Is there a {}", kind.singular())?;
                if let Some(region) = region {
                    write!(f, " in {region}")?;
                }
                f.write_str(if *yes_first { "? A yes B no" } else { "? A no B yes" })
            }
            Self::MostColour(kind, options) => {
                write!(f, "Which colour is most common{}?{}", Among(*kind), Options(options, Colour::word))
            }
            Self::MostShape(kind, options) => {
                write!(f, "Which shape is most common{}?{}", Among(*kind), Options(options, Shape::word))
            }
            Self::MoreOf(a, b) => write!(f, "Which are there more of? A {} B {}", a.plural(), b.plural()),
            Self::OnlyColour(shape, options) => {
                write!(f, "Which colour is the only {}?{}", shape.word(), Options(options, Colour::word))
            }
            Self::OnlyShape(colour, options) => {
                let kind = Kind::of_colour(*colour).singular();
                write!(f, "Which shape is the only {kind}?{}", Options(options, Shape::word))
            }
            Self::Share(kind, attribute) => {
                write!(f, "What share of the {} are {} to one decimal?", kind.plural(), attribute.word())
            }
        }
    }
}

/// ` among the ..`, or nothing where any object counts.
struct Among(Kind);

impl fmt::Display for Among {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Kind::ANY { Ok(()) } else { write!(f, " among the {}", self.0.plural()) }
    }
}

/// ` A .. B ..`.
struct Options<'a, T>(&'a [T], fn(T) -> &'static str);

impl<T: Copy> fmt::Display for Options<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = LETTERS.iter().zip(self.0);
        options.try_for_each(|(letter, option)| write!(f, " {letter} {}", (self.1)(*option)))
    }
}
