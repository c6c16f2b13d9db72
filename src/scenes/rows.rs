//! Rows of tables for scenes.

use super::family::QuestionFamily;
use super::object::{Colour, ObjectShape, SceneObject};
use super::sampler::QuestionSampler;
use super::scene::{GRID, Scene, ScenePurpose};
use crate::ids::{Digest, ItemId};
use crate::random::Seed;
use crate::tables::{BenchmarkRow, ImageFile, SceneObjectRow, SceneQuestionRow};

/// Returns the path of a scene's image, relative to its tables.
pub fn image_path(index: u64) -> String {
    format!("images/{index:06}.png")
}

/// Returns a row for each object.
pub fn object_rows(scene: &Scene) -> Vec<SceneObjectRow> {
    let row = |(number, object): (usize, &SceneObject)| SceneObjectRow {
        scene: scene.index(),
        image: image_path(scene.index()),
        object: number as u32,
        colour: object.colour.as_str().to_owned(),
        shape: object.shape.as_str().to_owned(),
        row: u32::from(object.row),
        column: u32::from(object.column),
        x: object.x as u32,
        y: object.y as u32,
        size: object.size as u32,
    };
    scene.objects().iter().enumerate().map(row).collect()
}

/// Returns the object of a row; `None` if a word or a position is invalid.
pub fn object_from_row(row: &SceneObjectRow) -> Option<SceneObject> {
    let cell = |n: u32| u8::try_from(n).ok().filter(|n| (1..=GRID as u8).contains(n));
    let pixels = |n: u32| i32::try_from(n).ok();
    Some(SceneObject {
        colour: Colour::from_stored(&row.colour)?,
        shape: ObjectShape::from_stored(&row.shape)?,
        row: cell(row.row)?,
        column: cell(row.column)?,
        x: pixels(row.x)?,
        y: pixels(row.y)?,
        size: pixels(row.size)?,
    })
}

/// Returns a question of each family with its right answer.
pub fn question_rows(scene: &Scene) -> Vec<SceneQuestionRow> {
    let mut sampler = QuestionSampler::new(scene, "questions");
    let row = |family: QuestionFamily| {
        let (question, truth) = sampler.sample(family);
        SceneQuestionRow {
            scene: scene.index(),
            image: image_path(scene.index()),
            family: family.as_str().to_owned(),
            question_type: family.question_type(),
            hard: family.is_hard(),
            question: question.to_string(),
            answer: truth.text().to_owned(),
        }
    };
    QuestionFamily::ALL.into_iter().map(row).collect()
}

/// Returns item `index` of the held-out benchmark: its own scene, the families in rotation.
pub fn benchmark_row(seed: Seed, index: u64) -> BenchmarkRow {
    let scene = Scene::draw(ScenePurpose::Benchmark, seed, index);
    let family = QuestionFamily::ALL[(index % QuestionFamily::ALL.len() as u64) as usize];
    let (question, truth) = QuestionSampler::new(&scene, "benchmark").sample(family);
    let (bytes, question) = (scene.to_png(), question.to_string());
    BenchmarkRow {
        item_id: ItemId(Digest::derive("visplay 2026 benchmark item", &[&bytes, question.as_bytes()])),
        category: Some(family.as_str().to_owned()),
        image: ImageFile { bytes, path: format!("{index:06}.png") },
        question_type: family.question_type(),
        question,
        answer: truth.text().to_owned(),
    }
}
