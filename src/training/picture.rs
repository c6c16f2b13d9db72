//! Images of prefix groups, whose patches may be computed on demand.

use std::fmt;
use std::sync::Arc;

use super::TrainingError;
use crate::vlm::grid::Grid;
use crate::vlm::image_processor::Patches;

/// An image of a prefix group. Its patch grid is always known. Its patches (24 bytes for each pixel
/// that the vision tower sees) may be computed each time that a micro-batch needs them, so that
/// they are in memory only then.
#[derive(Clone)]
pub struct Picture {
    grid: Grid,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Patches(Arc<Patches>),
    Lazy(Arc<PatchLoader>),
}

/// Computes the patches; an error is a message for the user.
type PatchLoader = dyn Fn() -> Result<Patches, String> + Send + Sync;

impl Picture {
    /// Returns an image in this grid whose patches `cut` computes on every call of
    /// [`patches`](Self::patches).
    pub fn lazy(grid: Grid, cut: impl Fn() -> Result<Patches, String> + Send + Sync + 'static) -> Self {
        Self { grid, source: Source::Lazy(Arc::new(cut)) }
    }

    /// Returns the patch grid.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Returns the patches.
    ///
    /// # Errors
    ///
    /// They cannot be computed, or their grid is not the expected one.
    pub fn patches(&self) -> Result<Arc<Patches>, TrainingError> {
        let patches = match &self.source {
            Source::Patches(patches) => return Ok(Arc::clone(patches)),
            Source::Lazy(cut) => cut().map_err(TrainingError::Image)?,
        };
        if patches.grid != <[usize; 3]>::from(self.grid) {
            let expected = <[usize; 3]>::from(self.grid);
            return Err(TrainingError::Image(format!("its patch grid is {:?}, expected {expected:?}", patches.grid)));
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
