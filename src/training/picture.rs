//! The images that trees look at.

use std::fmt;
use std::sync::Arc;

use super::TrainingError;
use crate::vlm::grid::Grid;
use crate::vlm::image_processor::Patches;

/// An image of a tree. Its grid is known from the start; its patches, 24 bytes for each pixel that the tower sees, need only be there
/// while a micro-batch looks at them.
#[derive(Clone)]
pub struct Picture {
    grid: Grid,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Patches(Arc<Patches>),
    Later(Arc<Cut>),
}

/// Gives the patches, or says in words why it cannot.
type Cut = dyn Fn() -> Result<Patches, String> + Send + Sync;

impl Picture {
    /// An image whose patches `cut` gives each time that they are asked for, in this grid.
    pub fn later(grid: Grid, cut: impl Fn() -> Result<Patches, String> + Send + Sync + 'static) -> Self {
        Self { grid, source: Source::Later(Arc::new(cut)) }
    }

    /// The grid of its patches.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Its patches.
    ///
    /// # Errors
    /// They cannot be cut, or have another grid than was said.
    pub fn patches(&self) -> Result<Arc<Patches>, TrainingError> {
        let patches = match &self.source {
            Source::Patches(patches) => return Ok(Arc::clone(patches)),
            Source::Later(cut) => cut().map_err(TrainingError::Image)?,
        };
        if patches.grid != <[usize; 3]>::from(self.grid) {
            let said = <[usize; 3]>::from(self.grid);
            return Err(TrainingError::Image(format!("its grid is {:?}, where {said:?} was expected", patches.grid)));
        }
        Ok(Arc::new(patches))
    }
}

impl From<Arc<Patches>> for Picture {
    fn from(patches: Arc<Patches>) -> Self {
        let [frames, rows, columns] = patches.grid;
        Self { grid: Grid { frames, rows, columns }, source: Source::Patches(patches) }
    }
}

impl From<Patches> for Picture {
    fn from(patches: Patches) -> Self {
        Arc::new(patches).into()
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = matches!(self.source, Source::Patches(_));
        f.debug_struct("Picture").field("grid", &self.grid).field("held", &held).finish()
    }
}
