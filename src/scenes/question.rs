//! Questions about a scene as data, and their text.

use std::fmt;

use super::family::QuestionFamily;
use super::object::{Attribute, Colour, ObjectKind, ObjectShape, Region};

/// Letters of the options.
pub(super) const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// A question that [`truth`](super::truth) can answer. [`Display`](fmt::Display) gives its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SceneQuestion {
    /// Number of objects of a kind.
    Count(ObjectKind),
    /// Number of objects of a kind in a region.
    CountIn(ObjectKind, Region),
    /// Number of objects of two kinds together, which must not overlap.
    Total(ObjectKind, ObjectKind),
    /// How many more there are of the first kind than of the second.
    More(ObjectKind, ObjectKind),
    /// Number of objects of a kind that lack an attribute, which the kind must leave unspecified.
    Except(ObjectKind, Attribute),
    /// Number of different colours, of all objects or of a shape.
    Colours(Option<ObjectShape>),
    /// Whether there is an object of a kind, anywhere or in a region; and whether yes is option A.
    Exists(ObjectKind, Option<Region>, bool),
    /// The most common colour of a kind without a colour; at least two different options.
    MostColour(ObjectKind, Vec<Colour>),
    /// The most common shape of a kind without a shape; at least two different options.
    MostShape(ObjectKind, Vec<ObjectShape>),
    /// Which kind is more common, option A or option B.
    MoreOf(ObjectKind, ObjectKind),
    /// The colour of the only object of a shape; at least two different options.
    OnlyColour(ObjectShape, Vec<Colour>),
    /// The shape of the only object of a colour; at least two different options.
    OnlyShape(Colour, Vec<ObjectShape>),
    /// Share of the objects of a kind that have an attribute, which the kind must leave
    /// unspecified, to one decimal.
    Share(ObjectKind, Attribute),
}

impl SceneQuestion {
    /// Returns the question's family.
    pub fn family(&self) -> QuestionFamily {
        match self {
            Self::Count(ObjectKind { colour: Some(_), shape: Some(_) }) => QuestionFamily::CountKind,
            Self::Count(ObjectKind { colour: Some(_), shape: None }) => QuestionFamily::CountColour,
            Self::Count(_) => QuestionFamily::CountShape,
            Self::CountIn(..) => QuestionFamily::CountIn,
            Self::Total(..) => QuestionFamily::CountTotal,
            Self::More(..) => QuestionFamily::CountMore,
            Self::Except(..) => QuestionFamily::CountExcept,
            Self::Colours(_) => QuestionFamily::CountColours,
            Self::Exists(_, None, _) => QuestionFamily::Exists,
            Self::Exists(_, Some(_), _) => QuestionFamily::ExistsIn,
            Self::MostColour(..) => QuestionFamily::MostColour,
            Self::MostShape(..) => QuestionFamily::MostShape,
            Self::MoreOf(..) => QuestionFamily::MoreOf,
            Self::OnlyColour(..) | Self::OnlyShape(..) => QuestionFamily::OnlyOne,
            Self::Share(..) => QuestionFamily::Share,
        }
    }

    /// Returns the number of options; 0 if there are none.
    pub(super) fn options(&self) -> usize {
        match self {
            Self::Exists(..) | Self::MoreOf(..) => 2,
            Self::MostColour(_, options) | Self::OnlyColour(_, options) => options.len(),
            Self::MostShape(_, options) | Self::OnlyShape(_, options) => options.len(),
            _ => 0,
        }
    }
}

impl fmt::Display for SceneQuestion {
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
                write!(f, "Which colour is most common{}?{}", Among(*kind), Options(options, Colour::as_str))
            }
            Self::MostShape(kind, options) => {
                write!(f, "Which shape is most common{}?{}", Among(*kind), Options(options, ObjectShape::as_str))
            }
            Self::MoreOf(a, b) => write!(f, "Which are there more of? A {} B {}", a.plural(), b.plural()),
            Self::OnlyColour(shape, options) => {
                write!(f, "Which colour is the only {}?{}", shape.as_str(), Options(options, Colour::as_str))
            }
            Self::OnlyShape(colour, options) => {
                let kind = ObjectKind::of_colour(*colour).singular();
                write!(f, "Which shape is the only {kind}?{}", Options(options, ObjectShape::as_str))
            }
            Self::Share(kind, attribute) => {
                write!(f, "What share of the {} are {} to one decimal?", kind.plural(), attribute.word())
            }
        }
    }
}

/// ` among the ..`, or nothing if any object counts.
struct Among(ObjectKind);

impl fmt::Display for Among {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == ObjectKind::ANY { Ok(()) } else { write!(f, " among the {}", self.0.plural()) }
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
