//! What is in drawn scenes, for measuring: how many pseudo-labels are right, and which questions have no answer. Read when a round is
//! shown or audited, and by no stage.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::ids::{Digest, ImageId};
use crate::scenes::truth::{SceneJudgement, judge};
use crate::scenes::{SceneObject, object_of};
use crate::tables::{self, SceneObjectRow, TableError};

/// A file of truth that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    /// The table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A row says what no scene has.
    #[error("{}: row {row} is no object of a scene", file.display())]
    Row {
        /// The file.
        file: PathBuf,
        /// The row, from 0.
        row: usize,
    },
}

/// The scenes whose images are at hand, by their images.
#[derive(Debug, Default)]
pub struct SceneTruth {
    scenes: HashMap<ImageId, Vec<SceneObject>>,
    /// Scenes whose image file is not beside the table.
    pub without_image: usize,
}

impl SceneTruth {
    /// Reads a table of objects as `visplay scenes` writes it, with the images beside it: which image a scene is, its file says.
    ///
    /// # Errors
    /// See [`TruthError`].
    pub fn read(file: &Path) -> Result<Self, TruthError> {
        let rows: Vec<SceneObjectRow> = tables::read_file(file)?;
        let mut by_image: BTreeMap<&str, Vec<SceneObject>> = BTreeMap::new();
        for (n, row) in rows.iter().enumerate() {
            let object = object_of(row).ok_or_else(|| TruthError::Row { file: file.to_owned(), row: n })?;
            by_image.entry(&row.image).or_default().push(object);
        }
        let folder = file.parent().unwrap_or(Path::new(""));
        let number = by_image.len();
        let scenes: HashMap<ImageId, Vec<SceneObject>> = by_image
            .into_par_iter()
            .filter_map(|(image, objects)| {
                let bytes = std::fs::read(folder.join(image)).ok()?;
                Some((ImageId(Digest::of(&bytes)), objects))
            })
            .collect();
        Ok(Self { without_image: number - scenes.len(), scenes })
    }

    /// Scenes.
    pub fn len(&self) -> usize {
        self.scenes.len()
    }

    /// Whether there is no scene.
    pub fn is_empty(&self) -> bool {
        self.scenes.is_empty()
    }

    /// What is known about a question; `None` where the image is no known scene.
    pub fn judge(&self, image: ImageId, question: &str) -> Option<SceneJudgement> {
        self.scenes.get(&image).map(|objects| judge(question, objects))
    }
}
