//! Sampler of questions about a scene with varied answers.

use super::family::QuestionFamily;
use super::object::{Attribute, Colour, ObjectKind, ObjectShape, Region};
use super::question::SceneQuestion;
use super::rng::SceneRng;
use super::scene::Scene;
use super::truth::{Truth, right_answer};

/// Attempts at a question with an informative answer.
const MAX_ATTEMPTS: usize = 4;
/// Percentage of `none` answers that trigger another attempt.
const RETRY_NONE_PERCENT: usize = 85;
/// Percentage of answers 0 and 1.0 that trigger another attempt.
const RETRY_EXTREME_PERCENT: usize = 60;

/// Samples questions about one scene.
pub struct QuestionSampler<'a> {
    scene: &'a Scene,
    rng: SceneRng,
}

impl<'a> QuestionSampler<'a> {
    /// Creates a sampler. Each `stage` has its own random stream.
    pub fn new(scene: &'a Scene, stage: &str) -> Self {
        Self { scene, rng: SceneRng::new(scene.stream(stage)) }
    }

    /// Returns a question of a family and its right answer. Unbiased sampling would mostly give the
    /// answers 0, no and none, so questions about existing objects are preferred.
    pub fn sample(&mut self, family: QuestionFamily) -> (SceneQuestion, Truth) {
        let mut attempt = 1;
        loop {
            let question = self.sample_once(family);
            let truth = right_answer(&question, self.scene);
            if attempt == MAX_ATTEMPTS || !self.rng.random_bool(retry_percent(&truth)) {
                return (question, truth);
            }
            attempt += 1;
        }
    }

    pub(super) fn rng(&mut self) -> &mut SceneRng {
        &mut self.rng
    }

    fn sample_once(&mut self, family: QuestionFamily) -> SceneQuestion {
        match family {
            QuestionFamily::CountKind => SceneQuestion::Count(self.colour_shape(50)),
            QuestionFamily::CountColour => SceneQuestion::Count(ObjectKind::of_colour(self.colour())),
            QuestionFamily::CountShape => {
                let any = self.rng.random_bool(15);
                SceneQuestion::Count(if any { ObjectKind::ANY } else { ObjectKind::of_shape(self.shape()) })
            }
            QuestionFamily::CountIn => {
                let kind = if self.rng.random_bool(20) { ObjectKind::ANY } else { self.kind() };
                SceneQuestion::CountIn(kind, self.region())
            }
            QuestionFamily::CountTotal => self.question_about_two_kinds(|a, b| !a.overlaps(b), SceneQuestion::Total),
            QuestionFamily::CountMore => self.question_about_two_kinds(|a, b| a != b, SceneQuestion::More),
            QuestionFamily::CountExcept => self.question_about_attribute(SceneQuestion::Except),
            QuestionFamily::CountColours => {
                let all = self.rng.random_bool(40);
                SceneQuestion::Colours(if all { None } else { Some(self.shape()) })
            }
            QuestionFamily::Exists => {
                let (kind, yes_first) = (self.colour_shape(25), self.rng.random_bool(75));
                SceneQuestion::Exists(kind, None, yes_first)
            }
            QuestionFamily::ExistsIn => {
                let (kind, region, yes_first) = (self.kind(), self.region(), self.rng.random_bool(75));
                SceneQuestion::Exists(kind, Some(region), yes_first)
            }
            QuestionFamily::MostColour => {
                let among = if self.rng.random_bool(70) { ObjectKind::ANY } else { ObjectKind::of_shape(self.shape()) };
                SceneQuestion::MostColour(among, self.rng.shuffled(&Colour::ALL))
            }
            QuestionFamily::MostShape => {
                let among =
                    if self.rng.random_bool(70) { ObjectKind::ANY } else { ObjectKind::of_colour(self.colour()) };
                SceneQuestion::MostShape(among, self.rng.shuffled(&ObjectShape::ALL))
            }
            QuestionFamily::MoreOf => self.question_about_two_kinds(|a, b| a != b, SceneQuestion::MoreOf),
            QuestionFamily::OnlyOne => self.question_about_only_object(),
            QuestionFamily::Share => self.question_about_attribute(SceneQuestion::Share),
        }
    }

    /// Returns a colour, more likely one that the scene has.
    fn colour(&mut self) -> Colour {
        let seen: Vec<Colour> = self.scene.objects().iter().map(|object| object.colour).collect();
        if self.rng.random_bool(60) { self.rng.choose(&seen) } else { self.rng.choose(&Colour::ALL) }
    }

    /// Returns a shape, more likely one that the scene has.
    fn shape(&mut self) -> ObjectShape {
        let seen: Vec<ObjectShape> = self.scene.objects().iter().map(|object| object.shape).collect();
        if self.rng.random_bool(60) { self.rng.choose(&seen) } else { self.rng.choose(&ObjectShape::ALL) }
    }

    /// Returns a colour and a shape: those of an object in `of_object` percent of cases, else any.
    fn colour_shape(&mut self, of_object: usize) -> ObjectKind {
        if self.rng.random_bool(of_object) {
            let object = self.rng.choose(self.scene.objects());
            return ObjectKind { colour: Some(object.colour), shape: Some(object.shape) };
        }
        ObjectKind { colour: Some(self.colour()), shape: Some(self.shape()) }
    }

    fn kind(&mut self) -> ObjectKind {
        match self.rng.below(3) {
            0 => self.colour_shape(50),
            1 => ObjectKind::of_colour(self.colour()),
            _ => ObjectKind::of_shape(self.shape()),
        }
    }

    fn region(&mut self) -> Region {
        // Halves and lines are equally likely.
        let regions = if self.rng.random_bool(50) { &Region::ALL[..4] } else { &Region::ALL[4..] };
        self.rng.choose(regions)
    }

    /// Returns a question about two kinds that satisfy `fit`.
    fn question_about_two_kinds(
        &mut self,
        fit: fn(ObjectKind, ObjectKind) -> bool,
        question: fn(ObjectKind, ObjectKind) -> SceneQuestion,
    ) -> SceneQuestion {
        // In half of the questions both kinds are of one sort, such as two colours.
        let sort = self.rng.random_bool(50).then(|| self.rng.below(3));
        loop {
            let [a, b] = [(); 2].map(|()| match sort {
                Some(0) => ObjectKind::of_colour(self.colour()),
                Some(1) => ObjectKind::of_shape(self.shape()),
                Some(_) => self.colour_shape(50),
                None => self.kind(),
            });
            if fit(a, b) {
                return question(a, b);
            }
        }
    }

    /// Returns a question about a kind, and a colour or shape that the kind leaves unspecified.
    fn question_about_attribute(&mut self, question: fn(ObjectKind, Attribute) -> SceneQuestion) -> SceneQuestion {
        let attribute =
            if self.rng.random_bool(50) { Attribute::Colour(self.colour()) } else { Attribute::Shape(self.shape()) };
        let kind = match attribute {
            _ if self.rng.random_bool(50) => ObjectKind::ANY,
            Attribute::Colour(_) => ObjectKind::of_shape(self.shape()),
            Attribute::Shape(_) => ObjectKind::of_colour(self.colour()),
        };
        question(kind, attribute)
    }

    /// Returns a question about the only object of a kind, about an existing one if possible.
    fn question_about_only_object(&mut self) -> SceneQuestion {
        let colours: Vec<Colour> = self.items_with_one_object(&Colour::ALL, ObjectKind::of_colour);
        let shapes: Vec<ObjectShape> = self.items_with_one_object(&ObjectShape::ALL, ObjectKind::of_shape);
        if self.rng.random_bool(50) {
            let colour = if colours.is_empty() { self.colour() } else { self.rng.choose(&colours) };
            SceneQuestion::OnlyShape(colour, self.rng.shuffled(&ObjectShape::ALL))
        } else {
            let shape = if shapes.is_empty() { self.shape() } else { self.rng.choose(&shapes) };
            SceneQuestion::OnlyColour(shape, self.rng.shuffled(&Colour::ALL))
        }
    }

    /// Returns the items of whose kind the scene has exactly one object.
    fn items_with_one_object<T: Copy>(&self, items: &[T], kind: fn(T) -> ObjectKind) -> Vec<T> {
        items.iter().copied().filter(|&item| self.scene.count(kind(item)) == 1).collect()
    }
}

/// Returns the percentage of questions with this answer that are replaced in another attempt.
fn retry_percent(truth: &Truth) -> usize {
    match truth {
        Truth::Answer(answer) if matches!(answer.as_str(), "0" | "0.0" | "1.0") => RETRY_EXTREME_PERCENT,
        Truth::Answer(_) => 0,
        Truth::Tie | Truth::FalsePremise => RETRY_NONE_PERCENT,
    }
}
