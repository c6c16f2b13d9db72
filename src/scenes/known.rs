//! Scenes whose objects a table tells, by their images: for judging what a model asked about them. **For evaluation only.**

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::object::SceneObject;
use super::rows::object_of;
use super::truth::{SceneJudgement, Truth, judge};
use crate::ids::{Digest, ImageId};
use crate::tables::{QuestionRow, QuestionVerdict, SceneObjectRow, SceneTruthRow, TableError, read_file};

/// A scene that a table of objects tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownScene {
    /// Its image file, relative to the table's folder.
    pub image: String,
    /// Its objects.
    pub objects: Vec<SceneObject>,
}

impl AsRef<[SceneObject]> for KnownScene {
    fn as_ref(&self) -> &[SceneObject] {
        &self.objects
    }
}

/// Why the scenes of a table are not known.
#[derive(Debug, thiserror::Error)]
pub enum KnownSceneError {
    /// The table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A row says what no scene has.
    #[error("{}: row {row} is no object of a scene", file.display())]
    Row {
        /// The table.
        file: PathBuf,
        /// The row, from 0.
        row: usize,
    },
    /// An image of the table is not beside it.
    #[error("{}: the image of a scene cannot be read: {problem}", image.display())]
    Image {
        /// The file.
        image: PathBuf,
        /// Why.
        problem: std::io::Error,
    },
}

/// The scenes of a `scene_objects` table, by the ids of their images, whose files lie where the table says.
///
/// # Errors
/// The table or an image cannot be read, or a row says what no scene has.
pub fn known_scenes(table: &Path) -> Result<BTreeMap<ImageId, KnownScene>, KnownSceneError> {
    let rows: Vec<SceneObjectRow> = read_file(table)?;
    let mut of_image: BTreeMap<String, Vec<SceneObject>> = BTreeMap::new();
    for (number, row) in rows.into_iter().enumerate() {
        let object = object_of(&row).ok_or_else(|| KnownSceneError::Row { file: table.to_owned(), row: number })?;
        of_image.entry(row.image).or_default().push(object);
    }
    let folder = table.parent().unwrap_or(Path::new(""));
    let known = of_image.into_iter().map(|(image, objects)| {
        let path = folder.join(&image);
        let bytes = std::fs::read(&path).map_err(|problem| KnownSceneError::Image { image: path, problem })?;
        Ok((ImageId(Digest::of(&bytes)), KnownScene { image, objects }))
    });
    known.collect()
}

/// What a generated question asks and its right answer; `None` for a sample that is no question.
pub fn truth_row(row: &QuestionRow, scenes: &BTreeMap<ImageId, KnownScene>) -> Option<SceneTruthRow> {
    let question = row.question.clone().filter(|_| row.valid)?;
    let scene = scenes.get(&row.image_id);
    let (family, verdict, answer) = match scene.map(|scene| judge(&question, scene)) {
        None => (None, QuestionVerdict::NoScene, None),
        Some(SceneJudgement::Ambiguous(_)) => (None, QuestionVerdict::Ambiguous, None),
        Some(SceneJudgement::Unknown) => (None, QuestionVerdict::Unknown, None),
        Some(SceneJudgement::Known(asked, truth)) => {
            let verdict = match truth {
                Truth::Answer(_) => QuestionVerdict::Answered,
                Truth::Tie => QuestionVerdict::Tie,
                Truth::FalsePremise => QuestionVerdict::FalsePremise,
            };
            (Some(asked.family()), verdict, Some(truth.text().to_owned()))
        }
    };
    Some(SceneTruthRow {
        question_id: row.question_id,
        image_id: row.image_id,
        image: scene.map(|scene| scene.image.clone()),
        question,
        family: family.map(|family| family.name().to_owned()),
        hard: family.map(super::QuestionFamily::is_hard),
        verdict,
        answer,
    })
}
