//! Scenes: objects in the cells of a grid, drawn from a seed and an index.

use super::object::{Colour, ObjectKind, ObjectShape, SceneObject};
use super::rng::SceneRng;
use crate::random::{Seed, Stream};

/// Width and height of a scene in pixels: 16 image tokens of 28 x 28.
pub const SIDE: usize = 112;
/// Width and height of a cell in pixels: one image token.
pub const CELL: usize = 28;
/// Number of rows and of columns.
pub const GRID: usize = 4;
/// Largest shift of an object from the centre of its cell, in pixels.
const SHIFT: i32 = 3;
/// Relative frequencies of the colours in a scene, in an order that the scene draws, so that counts
/// vary.
const COLOUR_WEIGHTS: [u64; 4] = [6, 3, 2, 1];
/// Relative frequencies of the shapes.
const SHAPE_WEIGHTS: [u64; 3] = [5, 3, 2];

/// Purpose of a scene. It is part of the random key: whatever the seeds, a scene for one purpose
/// never occurs for another, so a model is never evaluated on its training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScenePurpose {
    /// Unlabelled images for evolution.
    Images,
    /// Demonstrations for the warm start.
    WarmStart,
    /// Held-out questions.
    Benchmark,
}

impl ScenePurpose {
    const fn word(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::WarmStart => "warm-start",
            Self::Benchmark => "benchmark",
        }
    }
}

/// A scene and the key it was drawn from.
#[derive(Debug, Clone)]
pub struct Scene {
    purpose: ScenePurpose,
    seed: Seed,
    index: u64,
    /// Objects, row by row from the left.
    objects: Vec<SceneObject>,
}

impl Scene {
    /// Draws scene `index` of a purpose and a seed.
    pub fn draw(purpose: ScenePurpose, seed: Seed, index: u64) -> Self {
        let mut scene = Self { purpose, seed, index, objects: Vec::new() };
        let mut rng = SceneRng::new(scene.stream("layout"));
        let colours = rng.shuffled(&Colour::ALL);
        let shapes = rng.shuffled(&ObjectShape::ALL);
        let number = rng.between(3, 8) as usize;
        let mut cells = rng.shuffled(&(0..GRID * GRID).collect::<Vec<_>>());
        cells.truncate(number);
        cells.sort_unstable();
        for cell in cells {
            let (row, column) = (cell / GRID, cell % GRID);
            let shape = shapes[rng.weighted(&SHAPE_WEIGHTS)];
            let middle = |cell: usize| (cell * CELL + CELL / 2) as i32;
            scene.objects.push(SceneObject {
                colour: colours[rng.weighted(&COLOUR_WEIGHTS)],
                shape,
                row: row as u8 + 1,
                column: column as u8 + 1,
                x: middle(column) + rng.between(-SHIFT, SHIFT),
                y: middle(row) + rng.between(-SHIFT, SHIFT),
                size: match shape {
                    ObjectShape::Circle => rng.between(6, 7),
                    ObjectShape::Square | ObjectShape::Triangle => rng.between(9, 10),
                },
            });
        }
        scene
    }

    /// Returns the objects, row by row from the left.
    pub fn objects(&self) -> &[SceneObject] {
        &self.objects
    }

    /// Returns the scene's index.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Returns the number of objects of a kind.
    pub fn count(&self, kind: ObjectKind) -> usize {
        self.objects.iter().filter(|object| kind.matches(object)).count()
    }

    /// Returns the scene's random stream for one use.
    pub(super) fn stream(&self, stage: &str) -> Stream {
        self.seed.stream(&format!("scenes/{}/{stage}", self.purpose.word()), "", self.index)
    }
}

impl AsRef<[SceneObject]> for Scene {
    fn as_ref(&self) -> &[SceneObject] {
        &self.objects
    }
}
