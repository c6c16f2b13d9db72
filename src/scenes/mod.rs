//! Drawn scenes: synthetic images with known content, for the nano model and for evaluation.
//!
//! A scene is a pure function of its purpose, a seed and an index: noise over a gradient, with 3 to
//! 8 small shapes in the cells of a 4 x 4 grid. Integer arithmetic and a PNG encoder of our own
//! give the same file on every machine.
//!
//! **Use of the truth.** [`truth`] decides the right answer to a question about a scene. It is used
//! for the warm start's demonstrations, which teach the nano model to see, ask and answer, and for
//! evaluation. Evolution never reads it: its labels are the model's own votes.
//!
//! | step | where |
//! |---|---|
//! | what is in a scene | [`Scene::draw`] |
//! | its pixels and its file | [`Scene::paint`], [`Scene::to_png`] |
//! | a question as data, its text, its family | [`SceneQuestion`], [`QuestionFamily`] |
//! | a text back into a question | [`parse_question`] |
//! | the right answer | [`truth`] |
//! | questions about a scene | [`QuestionSampler`] |
//! | scenes of known images, to judge generated questions | [`KnownScenes`] |
//! | rows of the warm start | [`demonstrations`] |
//! | images and tables on disk | [`write_images`], [`write_demonstrations`], [`write_benchmark`] |
//! | the tokenizer of the nano model | [`tokenizer_json`] |

mod answer;
mod bpe;
mod demonstration;
mod family;
mod files;
mod known;
mod object;
mod paint;
mod parse;
mod png;
mod question;
mod rng;
mod rows;
mod sampler;
mod scene;
mod tokenizer;
pub mod truth;

pub use answer::DemonstrationStyle;
pub use demonstration::{ASK_PROMPT, DESCRIBE_PROMPT, DemonstrationOptions, FamilyWeights, SYSTEM, demonstrations};
pub use family::QuestionFamily;
pub use files::{
    SceneFileError, WrittenFile, write_benchmark, write_demonstrations, write_images, write_tokenizer, write_truths,
};
pub use known::{KnownScenes, KnownScenesError};
pub use object::{Attribute, Colour, ObjectKind, ObjectShape, Region, SceneObject};
pub use parse::{ParsedSceneQuestion, parse_question};
pub use question::SceneQuestion;
pub use rows::{benchmark_row, image_path, object_from_row, object_rows, question_rows};
pub use sampler::QuestionSampler;
pub use scene::{CELL, GRID, SIDE, Scene, ScenePurpose};
pub use tokenizer::tokenizer_json;
