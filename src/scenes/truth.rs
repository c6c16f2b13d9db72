//! Right answers to questions about a scene. **For the warm start's demonstrations and for
//! evaluation only**: nothing that evolves a model may read it.

use super::object::{Attribute, Colour, ObjectKind, ObjectShape, SceneObject};
use super::parse::{ParsedSceneQuestion, parse_question};
use super::question::{LETTERS, SceneQuestion};

/// Answer to a question that has none: a tie or a false premise.
pub const NONE: &str = "none";

/// Right answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Truth {
    /// A number, or the letter of an option.
    Answer(String),
    /// Two of the things compared are equally common.
    Tie,
    /// The question assumes something false.
    FalsePremise,
}

impl Truth {
    /// Returns the expected boxed answer: [`NONE`] for a tie and a false premise.
    pub fn text(&self) -> &str {
        match self {
            Self::Answer(answer) => answer,
            Self::Tie | Self::FalsePremise => NONE,
        }
    }
}

/// Judgement of a text about a scene.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SceneJudgement {
    /// A question of a known family, with its right answer.
    Known(SceneQuestion, Truth),
    /// A question of a known family with more than one meaning, or none.
    Ambiguous(&'static str),
    /// Not of a known family.
    Unknown,
}

/// Parses a text and decides its right answer.
pub fn judge(text: &str, scene: impl AsRef<[SceneObject]>) -> SceneJudgement {
    match parse_question(text) {
        ParsedSceneQuestion::Known(question) => {
            let truth = right_answer(&question, scene);
            SceneJudgement::Known(question, truth)
        }
        ParsedSceneQuestion::Ambiguous(why) => SceneJudgement::Ambiguous(why),
        ParsedSceneQuestion::Unknown => SceneJudgement::Unknown,
    }
}

/// Returns the right answer to a question about a scene.
pub fn right_answer(question: &SceneQuestion, scene: impl AsRef<[SceneObject]>) -> Truth {
    let objects = scene.as_ref();
    let count = |kind: ObjectKind| objects.iter().filter(|object| kind.matches(object)).count();
    let number = |n: usize| Truth::Answer(n.to_string());
    let having = |kind: ObjectKind, attribute: Attribute| {
        objects.iter().filter(|object| kind.matches(object) && attribute.matches(object)).count()
    };
    match question {
        SceneQuestion::Count(kind) => number(count(*kind)),
        SceneQuestion::CountIn(kind, region) => {
            number(objects.iter().filter(|object| kind.matches(object) && region.contains(object)).count())
        }
        SceneQuestion::Total(a, b) => number(count(*a) + count(*b)),
        // Equal numbers give 0. Fewer of the first kind make the premise false.
        SceneQuestion::More(a, b) => count(*a).checked_sub(count(*b)).map_or(Truth::FalsePremise, number),
        SceneQuestion::Except(kind, attribute) => number(count(*kind) - having(*kind, *attribute)),
        SceneQuestion::Colours(shape) => {
            let colours =
                Colour::ALL.iter().filter(|&&colour| count(ObjectKind { colour: Some(colour), shape: *shape }) > 0);
            match colours.count() {
                0 => Truth::FalsePremise,
                colours => number(colours),
            }
        }
        SceneQuestion::Exists(kind, region, yes_first) => {
            let holds = |object| kind.matches(object) && region.is_none_or(|region| region.contains(object));
            let yes = objects.iter().any(holds);
            letter_answer(usize::from(yes != *yes_first))
        }
        SceneQuestion::MostColour(kind, options) => {
            most_common_option(options, &Colour::ALL, |colour| count(kind_of_colour(*kind, colour)))
        }
        SceneQuestion::MostShape(kind, options) => {
            most_common_option(options, &ObjectShape::ALL, |shape| count(kind_of_shape(*kind, shape)))
        }
        SceneQuestion::MoreOf(a, b) => match count(*a).cmp(&count(*b)) {
            std::cmp::Ordering::Greater => letter_answer(0),
            std::cmp::Ordering::Equal => Truth::Tie,
            std::cmp::Ordering::Less => letter_answer(1),
        },
        SceneQuestion::OnlyColour(shape, options) => {
            property_of_only_object(objects, ObjectKind::of_shape(*shape), options, |object| object.colour)
        }
        SceneQuestion::OnlyShape(colour, options) => {
            property_of_only_object(objects, ObjectKind::of_colour(*colour), options, |object| object.shape)
        }
        SceneQuestion::Share(kind, attribute) => match count(*kind) {
            0 => Truth::FalsePremise,
            all => Truth::Answer(one_decimal(having(*kind, *attribute), all)),
        },
    }
}

pub(super) fn kind_of_colour(kind: ObjectKind, colour: Colour) -> ObjectKind {
    ObjectKind { colour: Some(colour), ..kind }
}

pub(super) fn kind_of_shape(kind: ObjectKind, shape: ObjectShape) -> ObjectKind {
    ObjectKind { shape: Some(shape), ..kind }
}

fn letter_answer(option: usize) -> Truth {
    Truth::Answer(LETTERS[option].to_owned())
}

/// Returns the most common item if it is unique and among the options.
fn most_common_option<T: Copy + PartialEq>(options: &[T], all: &[T], count: impl Fn(T) -> usize) -> Truth {
    let highest = all.iter().map(|&item| count(item)).max().unwrap_or(0);
    if highest == 0 {
        return Truth::FalsePremise;
    }
    let mut winners = all.iter().filter(|&&item| count(item) == highest);
    match (winners.next(), winners.next()) {
        (Some(winner), None) => option_letter(options, *winner),
        _ => Truth::Tie,
    }
}

/// Returns the option that is a property of the only object of a kind, if there is exactly one.
fn property_of_only_object<T: Copy + PartialEq>(
    objects: &[SceneObject],
    kind: ObjectKind,
    options: &[T],
    property: fn(&SceneObject) -> T,
) -> Truth {
    let mut objects = objects.iter().filter(|object| kind.matches(object));
    match (objects.next(), objects.next()) {
        (Some(object), None) => option_letter(options, property(object)),
        _ => Truth::FalsePremise,
    }
}

/// Returns the letter of the right option; if it is not an option, the premise is false.
fn option_letter<T: PartialEq>(options: &[T], right: T) -> Truth {
    options.iter().position(|option| *option == right).map_or(Truth::FalsePremise, letter_answer)
}

/// Formats `part / all` to one decimal, rounded half up.
fn one_decimal(part: usize, all: usize) -> String {
    let tenths = (20 * part + all) / (2 * all);
    format!("{}.{}", tenths / 10, tenths % 10)
}
