//! Scenes, their questions and right answers, and that they never change.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use visplay::ids::Digest;
use visplay::imaging::{Limits, decode};
use visplay::random::Seed;
use visplay::scenes::truth::{NONE, SceneJudgement, Truth, judge, right_answer};
use visplay::scenes::{
    Attribute, Colour, ObjectKind, ObjectShape, ParsedSceneQuestion, QuestionFamily, QuestionSampler, Region, SIDE,
    Scene, SceneObject, ScenePurpose, SceneQuestion, parse_question,
};

fn scene(index: u64) -> Scene {
    Scene::draw(ScenePurpose::Images, Seed(1), index)
}

fn colours() -> impl Strategy<Value = Colour> {
    prop::sample::select(Colour::ALL.to_vec())
}

fn shapes() -> impl Strategy<Value = ObjectShape> {
    prop::sample::select(ObjectShape::ALL.to_vec())
}

fn regions() -> impl Strategy<Value = Region> {
    prop::sample::select(Region::ALL.to_vec())
}

fn kinds() -> impl Strategy<Value = ObjectKind> {
    (prop::option::of(colours()), prop::option::of(shapes())).prop_map(|(colour, shape)| ObjectKind { colour, shape })
}

fn attributes() -> impl Strategy<Value = Attribute> {
    prop_oneof![colours().prop_map(Attribute::Colour), shapes().prop_map(Attribute::Shape)]
}

fn some_of<T: Clone + std::fmt::Debug + 'static>(all: &[T]) -> impl Strategy<Value = Vec<T>> + use<T> {
    let most = all.len();
    prop::sample::subsequence(all.to_vec(), 2..=most).prop_shuffle()
}

/// Generates any possible question, far more than the sampler draws.
fn questions() -> impl Strategy<Value = SceneQuestion> {
    let of_colours = kinds().prop_map(|kind| ObjectKind { colour: None, ..kind });
    let of_shapes = kinds().prop_map(|kind| ObjectKind { shape: None, ..kind });
    let open = || (kinds(), attributes()).prop_filter("the attribute is open", |(kind, a)| kind.leaves_unspecified(*a));
    let two = || (kinds(), kinds()).prop_filter("different kinds", |(a, b)| a != b);
    prop_oneof![
        kinds().prop_map(SceneQuestion::Count),
        (kinds(), regions()).prop_map(|(kind, region)| SceneQuestion::CountIn(kind, region)),
        (kinds(), kinds()).prop_filter("apart", |(a, b)| !a.overlaps(*b)).prop_map(|(a, b)| SceneQuestion::Total(a, b)),
        two().prop_map(|(a, b)| SceneQuestion::More(a, b)),
        open().prop_map(|(kind, attribute)| SceneQuestion::Except(kind, attribute)),
        prop::option::of(shapes()).prop_map(SceneQuestion::Colours),
        (kinds(), prop::option::of(regions()), any::<bool>())
            .prop_map(|(kind, region, yes)| SceneQuestion::Exists(kind, region, yes)),
        (of_colours, some_of(&Colour::ALL)).prop_map(|(kind, options)| SceneQuestion::MostColour(kind, options)),
        (of_shapes, some_of(&ObjectShape::ALL)).prop_map(|(kind, options)| SceneQuestion::MostShape(kind, options)),
        two().prop_map(|(a, b)| SceneQuestion::MoreOf(a, b)),
        (shapes(), some_of(&Colour::ALL)).prop_map(|(shape, options)| SceneQuestion::OnlyColour(shape, options)),
        (colours(), some_of(&ObjectShape::ALL)).prop_map(|(colour, options)| SceneQuestion::OnlyShape(colour, options)),
        open().prop_map(|(kind, attribute)| SceneQuestion::Share(kind, attribute)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_question_is_parsed_back_from_its_text(question in questions(), index in 0u64..500) {
        let text = question.to_string();
        prop_assert_eq!(parse_question(&text), ParsedSceneQuestion::Known(question.clone()), "{}", text);
        let spaced = format!("  {} ", text.replace(' ', "  "));
        prop_assert_eq!(parse_question(&spaced), ParsedSceneQuestion::Known(question.clone()));
        let scene = scene(index);
        let right = right_answer(&question, &scene);
        prop_assert_eq!(judge(&text, &scene), SceneJudgement::Known(question.clone(), right.clone()));
        // A question mark ends the question or precedes the options.
        let options = text.split_once('?').unwrap().1;
        let wants_options = question.family().question_type() == visplay::tables::QuestionType::MultipleChoice;
        prop_assert_eq!(wants_options, options.starts_with(" A "), "{}", text);
        prop_assert_eq!(!wants_options, options.is_empty());
        if let Truth::Answer(answer) = right {
            let option = format!(" {answer} ");
            prop_assert!(!wants_options || options.contains(&option), "{} lacks {}", text, answer);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(words in prop::collection::vec(prop::sample::select(vec![
        "How", "many", "more", "Which", "What", "Is", "there", "a", "colour", "shape", "shapes", "red", "blue", "circles",
        "circle", "square", "are", "and", "than", "there?", "in", "total?", "the", "only", "most", "common?", "A", "B", "C",
        "D", "yes", "no", "row", "5?", "2?", "top", "half?", "not", "different", "colours", "share", "of", "?", "\u{e9}",
    ]), 0..16), text in ".*") {
        let _ = parse_question(&words.join(" "));
        let _ = parse_question(&text);
    }
}

/// Computes the right answer from the objects alone, independently of the program.
fn plain_truth(question: &SceneQuestion, objects: &[SceneObject]) -> String {
    let count = |holds: &dyn Fn(&SceneObject) -> bool| objects.iter().filter(|object| holds(object)).count() as i64;
    let of = |kind: &ObjectKind| {
        let kind = *kind;
        count(&|o| kind.colour.is_none_or(|c| c == o.colour) && kind.shape.is_none_or(|s| s == o.shape))
    };
    let is = |o: &SceneObject, kind: &ObjectKind| {
        kind.colour.is_none_or(|c| c == o.colour) && kind.shape.is_none_or(|s| s == o.shape)
    };
    let inside = |o: &SceneObject, region: &Region| {
        // An object stays in its cell, so its centre determines the cell.
        match region {
            Region::Top => o.y < 56,
            Region::Bottom => o.y >= 56,
            Region::Left => o.x < 56,
            Region::Right => o.x >= 56,
            Region::Row(n) => o.y / 28 + 1 == i32::from(*n),
            Region::Column(n) => o.x / 28 + 1 == i32::from(*n),
        }
    };
    let has = |o: &SceneObject, attribute: &Attribute| match attribute {
        Attribute::Colour(colour) => o.colour == *colour,
        Attribute::Shape(shape) => o.shape == *shape,
    };
    let letter = |place: usize| ["A", "B", "C", "D"][place].to_owned();
    let best = |counts: Vec<i64>, options: Vec<usize>| {
        let most = *counts.iter().max().unwrap();
        let winners: Vec<usize> = (0..counts.len()).filter(|&i| counts[i] == most).collect();
        let place = options.iter().position(|&option| option == winners[0]);
        match place {
            Some(place) if most > 0 && winners.len() == 1 => letter(place),
            _ => "none".to_owned(),
        }
    };
    match question {
        SceneQuestion::Count(kind) => of(kind).to_string(),
        SceneQuestion::CountIn(kind, region) => count(&|o| is(o, kind) && inside(o, region)).to_string(),
        SceneQuestion::Total(a, b) => count(&|o| is(o, a) || is(o, b)).to_string(),
        SceneQuestion::More(a, b) if of(a) >= of(b) => (of(a) - of(b)).to_string(),
        SceneQuestion::More(..) => "none".to_owned(),
        SceneQuestion::Except(kind, attribute) => count(&|o| is(o, kind) && !has(o, attribute)).to_string(),
        SceneQuestion::Colours(shape) => {
            let of_shape = objects.iter().filter(|o| shape.is_none_or(|s| s == o.shape));
            let colours: BTreeSet<Colour> = of_shape.map(|o| o.colour).collect();
            if colours.is_empty() { "none".to_owned() } else { colours.len().to_string() }
        }
        SceneQuestion::Exists(kind, region, yes_first) => {
            let yes = count(&|o| is(o, kind) && region.as_ref().is_none_or(|r| inside(o, r))) > 0;
            letter(usize::from(yes != *yes_first))
        }
        SceneQuestion::MostColour(kind, options) => best(
            Colour::ALL.iter().map(|c| count(&|o| is(o, kind) && o.colour == *c)).collect(),
            options.iter().map(|option| *option as usize).collect(),
        ),
        SceneQuestion::MostShape(kind, options) => best(
            ObjectShape::ALL.iter().map(|s| count(&|o| is(o, kind) && o.shape == *s)).collect(),
            options.iter().map(|option| *option as usize).collect(),
        ),
        SceneQuestion::MoreOf(a, b) => match of(a) - of(b) {
            0 => "none".to_owned(),
            more => letter(usize::from(more < 0)),
        },
        SceneQuestion::OnlyColour(shape, options) => {
            let matching: Vec<&SceneObject> = objects.iter().filter(|o| o.shape == *shape).collect();
            let place = options.iter().position(|option| matching.len() == 1 && *option == matching[0].colour);
            place.map_or("none".to_owned(), letter)
        }
        SceneQuestion::OnlyShape(colour, options) => {
            let matching: Vec<&SceneObject> = objects.iter().filter(|o| o.colour == *colour).collect();
            let place = options.iter().position(|option| matching.len() == 1 && *option == matching[0].shape);
            place.map_or("none".to_owned(), letter)
        }
        SceneQuestion::Share(kind, _) if of(kind) == 0 => "none".to_owned(),
        SceneQuestion::Share(kind, attribute) => {
            let share = count(&|o| is(o, kind) && has(o, attribute)) as f64 / of(kind) as f64;
            // Shares of at most 8 objects are exact enough to recognize a half.
            format!("{:.1}", (share * 10.0 + 0.5 + 1e-9).floor() / 10.0)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_truth_agrees_with_an_independent_implementation(question in questions(), index in 0u64..2000) {
        let scene = scene(index);
        let right = right_answer(&question, &scene);
        prop_assert_eq!(right.text(), plain_truth(&question, scene.objects()), "{}", question);
    }
}

#[test]
fn every_family_is_sampled_parsed_and_varied() {
    for family in QuestionFamily::ALL {
        let mut answers: BTreeMap<String, u32> = BTreeMap::new();
        let mut texts = BTreeSet::new();
        for index in 0..600 {
            let scene = scene(index);
            let (question, right) = QuestionSampler::new(&scene, "test").sample(family);
            let text = question.to_string();
            assert_eq!(question.family(), family);
            assert_eq!(judge(&text, &scene), SceneJudgement::Known(question, right.clone()), "{text}");
            *answers.entry(right.text().to_owned()).or_default() += 1;
            texts.insert(text);
        }
        let most = answers.values().max().unwrap();
        assert!(*most < 420, "{family}: one answer has {most} of 600: {answers:?}");
        let none = answers.get(NONE).copied().unwrap_or(0);
        assert!(none < 180, "{family}: none has {none} of 600");
        assert!(answers.len() > 1 && texts.len() > 3, "{family}: {answers:?}, {} texts", texts.len());
        assert_eq!(family.as_str().parse::<QuestionFamily>(), Ok(family));
    }
}

#[test]
fn ambiguous_false_and_unknown_questions_are_recognized() {
    let ambiguous = [
        "How many red shapes and circles are there in total?",
        "How many circles and circles are there in total?",
        "How many more red shapes than red shapes are there?",
        "How many red circles are not blue?",
        "What share of the red shapes are blue to one decimal?",
        "Is there a red circle? A yes B yes",
        "Which colour is most common? A red B green C red D yellow",
        "Which colour is most common among the red shapes? A red B green",
        "Which are there more of? A circles B circles",
        "Which shape is the only red shape? A circle B circle C square",
    ];
    for text in ambiguous {
        assert!(
            matches!(parse_question(text), ParsedSceneQuestion::Ambiguous(_)),
            "{text}: {:?}",
            parse_question(text)
        );
    }
    let unknown = [
        "",
        "?",
        "How many?",
        "How many red red circles are there?",
        "How many red circles are there",
        "How many red circles are there??",
        "How many red circles are there? A 1 B 2",
        "how many red circles are there?",
        "Is there a red circle?",
        "Is there a red circle? A yes C no",
        "How many shapes are in row 5?",
        "How many shapes are in row 02?",
        "How many circles are in the middle half?",
        "Which colour is most common? A red",
        "Which colour is most common? A red B circle",
        "Which colour is the only red circle? A red B green",
        "What is this?",
    ];
    for text in unknown {
        assert_eq!(parse_question(text), ParsedSceneQuestion::Unknown, "{text}");
    }
    let scene = (0..).map(scene).find(|scene| scene.count(ObjectKind::of_shape(ObjectShape::Circle)) == 0).unwrap();
    for text in ["Which colour is the only circle? A red B green", "How many different colours do the circles have?"] {
        assert!(matches!(judge(text, &scene), SceneJudgement::Known(_, Truth::FalsePremise)), "{text}");
    }
    let tie = judge("Which are there more of? A red circles B blue circles", &scene);
    assert!(matches!(tie, SceneJudgement::Known(_, Truth::Tie)));
}

#[test]
fn a_scene_has_its_documented_ranges() {
    let mut counts = [0; 9];
    for index in 0..1000 {
        let scene = scene(index);
        counts[scene.objects().len()] += 1;
        let cells: BTreeSet<_> = scene.objects().iter().map(|o| (o.row, o.column)).collect();
        assert_eq!(cells.len(), scene.objects().len(), "at most one object in a cell");
        assert!(scene.objects().is_sorted_by_key(|o| (o.row, o.column)));
        for object in scene.objects() {
            let middle = |cell: u8| (i32::from(cell) - 1) * 28 + 14;
            assert!((object.x - middle(object.column)).abs() <= 3 && (object.y - middle(object.row)).abs() <= 3);
        }
    }
    assert_eq!(counts[..3], [0; 3]);
    assert!(counts[3..].iter().all(|&n| n > 100), "{counts:?}");
}

#[test]
fn an_image_shows_its_objects() {
    for index in 0..50 {
        let scene = scene(index);
        let image = scene.paint();
        assert_eq!((image.width() as usize, image.height() as usize), (SIDE, SIDE));
        let decoded = decode(&scene.to_png(), &Limits::default()).unwrap();
        assert_eq!(decoded.pixels, image);
        for object in scene.objects() {
            // Despite the noise, the mean around the centre has the object's colour.
            let mut mean = [0; 3];
            for (dx, dy) in (-3..=3).flat_map(|dx| (0..=4).map(move |dy| (dx, dy))) {
                let at = ((object.y + dy) as usize * SIDE + (object.x + dx) as usize) * 3;
                (0..3).for_each(|channel| mean[channel] += i32::from(image.data()[at + channel]));
            }
            let [r, g, b] = mean.map(|sum| sum / 35);
            let seen = match object.colour {
                Colour::Red => r > g + 50 && r > b + 50,
                Colour::Green => g > r + 40 && g > b + 25,
                Colour::Blue => b > r + 50 && b > g + 30,
                Colour::Yellow => r > b + 50 && g > b + 50,
            };
            assert!(seen, "scene {index}: {object:?} has mean {:?}", [r, g, b]);
        }
    }
}

#[test]
fn the_bytes_of_scenes_are_frozen() {
    let digest = |purpose| {
        let files: Vec<Vec<u8>> = (0..64).map(|index| Scene::draw(purpose, Seed(7), index).to_png()).collect();
        Digest::derive("test", &files.iter().map(Vec::as_slice).collect::<Vec<_>>()).to_string()
    };
    let actual = [ScenePurpose::Images, ScenePurpose::WarmStart, ScenePurpose::Benchmark].map(digest);
    assert_eq!(actual, FROZEN);
}

/// The ids of all scenes depend on these bytes: a change here invalidates every measured result.
const FROZEN: [&str; 3] = [
    "04061cd69b261ff7588c4a619265424192616433216bbb15bd1cbd71a9727f1c",
    "5ec6a642db9efbf4c132bb068a9c20bba8958a4d5e795b0cf877c5bf2eae7b2c",
    "d719f46e0653f06fad15dc07d2d3e55cb18092ccebbd953ba38e3e035223096e",
];

#[test]
fn scenes_of_different_purposes_seeds_and_numbers_differ() {
    let mut seen = BTreeSet::new();
    for purpose in [ScenePurpose::Images, ScenePurpose::WarmStart, ScenePurpose::Benchmark] {
        for seed in 0..3 {
            for index in 0..100 {
                assert!(seen.insert(Digest::of(&Scene::draw(purpose, Seed(seed), index).to_png())));
            }
        }
    }
}
