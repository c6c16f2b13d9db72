//! Scenes loaded from a table of their objects, to decide the right answers to questions about
//! their images. **For evaluation only.**

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::family::QuestionFamily;
use super::object::SceneObject;
use super::rows::object_from_row;
use super::truth::{SceneJudgement, Truth, judge};
use crate::ids::{Digest, ImageId};
use crate::tables::{QuestionRow, QuestionVerdict, SceneObjectRow, SceneTruthRow, TableError, read_file};

/// A scene with its image file.
#[derive(Debug)]
struct KnownScene {
    /// The image file, relative to the table's folder.
    image: String,
    objects: Vec<SceneObject>,
}

/// A reason why the scenes of a table cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KnownScenesError {
    /// The table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A row does not describe an object of a scene.
    #[error("{}: row {row} does not describe an object of a scene", file.display())]
    Row {
        /// The table.
        file: PathBuf,
        /// The row, from 0.
        row: usize,
    },
    /// An image of the table cannot be read.
    #[error("{}: the image of a scene cannot be read: {problem}", image.display())]
    Image {
        /// The image file.
        image: PathBuf,
        /// The system's error.
        problem: io::Error,
    },
}

/// Scenes by the ids of their images.
#[derive(Debug, Default)]
pub struct KnownScenes {
    scenes: BTreeMap<ImageId, KnownScene>,
    unreadable: Vec<(PathBuf, io::Error)>,
}

impl KnownScenes {
    /// Reads a `scene_objects` table, as `visplay scenes` writes it, and the images next to it,
    /// which give each scene its image id. Scenes whose image cannot be read are left out.
    ///
    /// # Errors
    /// The table cannot be read, or a row does not describe an object of a scene.
    pub fn read(table: &Path) -> Result<Self, KnownScenesError> {
        let rows: Vec<SceneObjectRow> = read_file(table)?;
        let mut by_image: BTreeMap<String, Vec<SceneObject>> = BTreeMap::new();
        for (number, row) in rows.into_iter().enumerate() {
            let object =
                object_from_row(&row).ok_or_else(|| KnownScenesError::Row { file: table.to_owned(), row: number })?;
            by_image.entry(row.image).or_default().push(object);
        }
        let folder = table.parent().unwrap_or(Path::new(""));
        let read = by_image.into_par_iter().map(|(image, objects)| {
            let path = folder.join(&image);
            let bytes = std::fs::read(&path).map_err(|e| (path, e))?;
            Ok((ImageId(Digest::of(&bytes)), KnownScene { image, objects }))
        });
        let mut known = Self::default();
        for scene in read.collect::<Vec<_>>() {
            match scene {
                Ok((id, scene)) => drop(known.scenes.insert(id, scene)),
                Err(unreadable) => known.unreadable.push(unreadable),
            }
        }
        Ok(known)
    }

    /// Returns the scenes if every image of the table was read.
    ///
    /// # Errors
    /// [`KnownScenesError::Image`] for the first image that could not be read.
    pub fn require_all_images(mut self) -> Result<Self, KnownScenesError> {
        if self.unreadable.is_empty() {
            return Ok(self);
        }
        let (image, problem) = self.unreadable.swap_remove(0);
        Err(KnownScenesError::Image { image, problem })
    }

    /// Whether no scene is known.
    pub fn is_empty(&self) -> bool {
        self.scenes.is_empty()
    }

    /// Reads a question about an image and decides its right answer; `None` if the image shows no
    /// known scene.
    pub fn judge(&self, image: ImageId, question: &str) -> Option<SceneJudgement> {
        self.scenes.get(&image).map(|scene| judge(question, &scene.objects))
    }

    /// Returns a generated question with its right answer as a row; `None` if not valid.
    pub fn truth_row(&self, row: &QuestionRow) -> Option<SceneTruthRow> {
        let question = row.question.clone().filter(|_| row.valid)?;
        let (family, verdict, answer) = match self.judge(row.image_id, &question) {
            None => (None, QuestionVerdict::NoScene, None),
            Some(SceneJudgement::Ambiguous(_)) => (None, QuestionVerdict::Ambiguous, None),
            Some(SceneJudgement::Unknown) => (None, QuestionVerdict::Unknown, None),
            Some(SceneJudgement::Known(question, truth)) => {
                let verdict = match truth {
                    Truth::Answer(_) => QuestionVerdict::Answered,
                    Truth::Tie => QuestionVerdict::Tie,
                    Truth::FalsePremise => QuestionVerdict::FalsePremise,
                };
                (Some(question.family()), verdict, Some(truth.text().to_owned()))
            }
        };
        Some(SceneTruthRow {
            question_id: row.question_id,
            image_id: row.image_id,
            image: self.scenes.get(&row.image_id).map(|scene| scene.image.clone()),
            question,
            family: family.map(|family| family.as_str().to_owned()),
            hard: family.map(QuestionFamily::is_hard),
            verdict,
            answer,
        })
    }
}
