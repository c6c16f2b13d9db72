//! Responses of the warm start's demonstrations: with or without counts before the answer.

use super::object::{Colour, ObjectKind, ObjectShape, SceneObject};
use super::question::{LETTERS, SceneQuestion};
use super::rng::SceneRng;
use super::scene::{GRID, Scene};
use super::truth::{kind_of_colour, kind_of_shape};
use crate::tables::{QuestionType, string_enum};

string_enum! {
    /// Task that a row of the warm start demonstrates.
    pub enum DemonstrationStyle("a style: describe, look-first, straight or ask") {
        /// Describes each of the 16 cells.
        Describe = "describe",
        /// Counts the objects in each row, then answers.
        CountFirst = "look-first",
        /// Answers directly.
        Direct = "straight",
        /// Asks a question.
        Ask = "ask",
    }
}

/// Returns a response with the answer in a box.
pub(super) fn response(question: &SceneQuestion, scene: &Scene, style: DemonstrationStyle, answer: &str) -> String {
    match style {
        DemonstrationStyle::CountFirst => format!("{}\n\\boxed{{{answer}}}", intermediate_counts(question, scene)),
        _ => format!("\\boxed{{{answer}}}"),
    }
}

/// Returns the counts written before an answer. `1+0+2+0` are the objects of a kind in each row,
/// followed by `=3` if there are several kinds; `A=3,B=1` compares options.
fn intermediate_counts(question: &SceneQuestion, scene: &Scene) -> String {
    let rows = |holds: &dyn Fn(&SceneObject) -> bool| by_row(scene, holds);
    let sum = |holds: &dyn Fn(&SceneObject) -> bool| {
        let number = scene.objects().iter().filter(|object| holds(object)).count();
        format!("{}={number}", by_row(scene, holds))
    };
    let colours = |kind, options: &[Colour]| {
        let counts = options.iter().map(|&colour| scene.count(kind_of_colour(kind, colour)));
        list_counts(LETTERS.into_iter().zip(counts))
    };
    let shapes = |kind, options: &[ObjectShape]| {
        let counts = options.iter().map(|&shape| scene.count(kind_of_shape(kind, shape)));
        list_counts(LETTERS.into_iter().zip(counts))
    };
    match question {
        SceneQuestion::Count(kind) => rows(&|object| kind.matches(object)),
        SceneQuestion::CountIn(kind, region) => rows(&|object| kind.matches(object) && region.contains(object)),
        SceneQuestion::Total(a, b) | SceneQuestion::More(a, b) | SceneQuestion::MoreOf(a, b) => {
            format!("{}\n{}", sum(&|object| a.matches(object)), sum(&|object| b.matches(object)))
        }
        SceneQuestion::Except(kind, attribute) => rows(&|object| kind.matches(object) && !attribute.matches(object)),
        SceneQuestion::Exists(kind, region, _) => {
            rows(&|object| kind.matches(object) && region.is_none_or(|region| region.contains(object)))
        }
        SceneQuestion::Colours(shape) => {
            let count = |colour: &Colour| scene.count(ObjectKind { colour: Some(*colour), shape: *shape });
            list_counts(Colour::ALL.iter().map(|colour| (colour.as_str(), count(colour))))
        }
        SceneQuestion::MostColour(kind, options) => colours(*kind, options),
        SceneQuestion::MostShape(kind, options) => shapes(*kind, options),
        SceneQuestion::OnlyColour(shape, options) => colours(ObjectKind::of_shape(*shape), options),
        SceneQuestion::OnlyShape(colour, options) => shapes(ObjectKind::of_colour(*colour), options),
        SceneQuestion::Share(kind, attribute) => {
            let part = sum(&|object| kind.matches(object) && attribute.matches(object));
            format!("{part}\n{}", sum(&|object| kind.matches(object)))
        }
    }
}

fn by_row(scene: &Scene, holds: &dyn Fn(&SceneObject) -> bool) -> String {
    let mut rows = [0; GRID];
    for object in scene.objects().iter().filter(|object| holds(object)) {
        rows[usize::from(object.row) - 1] += 1;
    }
    rows.map(|n| n.to_string()).join("+")
}

fn list_counts<'a>(counts: impl Iterator<Item = (&'a str, usize)>) -> String {
    counts.map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(",")
}

/// Describes the 16 cells, one line per row: `no red circle no no`.
pub(super) fn description(scene: &Scene) -> String {
    let mut cells = vec!["no".to_owned(); GRID * GRID];
    for object in scene.objects() {
        let cell = (usize::from(object.row) - 1) * GRID + usize::from(object.column) - 1;
        cells[cell] = ObjectKind { colour: Some(object.colour), shape: Some(object.shape) }.singular();
    }
    cells.chunks_exact(GRID).map(|row| row.join(" ")).collect::<Vec<_>>().join("\n")
}

/// Returns a wrong answer of the question's type.
pub(super) fn wrong_answer(question: &SceneQuestion, right: &str, rng: &mut SceneRng) -> String {
    let possible: Vec<String> = match question.family().question_type() {
        QuestionType::MultipleChoice => LETTERS[..question.options()].iter().map(|&letter| letter.to_owned()).collect(),
        QuestionType::Numerical => (0..6).map(|number| number.to_string()).collect(),
        QuestionType::Regression => (0..=10).map(|tenth| format!("{}.{}", tenth / 10, tenth % 10)).collect(),
    };
    let wrong: Vec<&String> = possible.iter().filter(|answer| *answer != right).collect();
    rng.choose(&wrong).clone()
}

/// Formats a question as the Questioner's output.
pub(super) fn questioner_output(question: &SceneQuestion) -> String {
    format!("<type>{}</type><question>{question}</question>", question.family().question_type())
}
