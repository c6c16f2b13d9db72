//! An image of a prefix group, prepared for the vision tower, whose patches may be computed on
//! demand.

use std::fmt;
use std::sync::Arc;

use super::{Result, TrainingError};
use crate::vlm::grid::Grid;
use crate::vlm::image_processor::Patches;

/// An image of a prefix group, prepared for the vision tower. Its patch grid is always known. Its
/// patches (24 bytes per pixel of the resized image) may be computed each time a micro-batch needs
/// them, so that they are in memory only then.
#[derive(Clone)]
pub struct PreparedImage {
    grid: Grid,
    source: PatchSource,
}

#[derive(Clone)]
enum PatchSource {
    Patches(Arc<Patches>),
    Lazy(Arc<PatchLoader>),
}

/// Computes the patches; an error is a message for the user.
type PatchLoader = dyn Fn() -> Result<Patches, String> + Send + Sync;

impl PreparedImage {
    /// Returns an image in this grid whose patches `cut` computes on every call of
    /// [`patches`](Self::patches).
    pub fn lazy(grid: Grid, cut: impl Fn() -> Result<Patches, String> + Send + Sync + 'static) -> Self {
        Self { grid, source: PatchSource::Lazy(Arc::new(cut)) }
    }

    /// Returns the patch grid.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Returns the patches.
    ///
    /// # Errors
    /// They cannot be computed, or their grid is not the expected one.
    pub fn patches(&self) -> Result<Arc<Patches>> {
        let patches = match &self.source {
            PatchSource::Patches(patches) => return Ok(Arc::clone(patches)),
            PatchSource::Lazy(cut) => cut().map_err(TrainingError::Image)?,
        };
        let (actual, expected) = (patches.grid, <[usize; 3]>::from(self.grid));
        if actual != expected {
            return Err(TrainingError::Image(format!("its patch grid is {actual:?}, expected {expected:?}")));
        }
        Ok(Arc::new(patches))
    }
}

impl From<Arc<Patches>> for PreparedImage {
    fn from(patches: Arc<Patches>) -> Self {
        let [frames, rows, columns] = patches.grid;
        Self { grid: Grid { frames, rows, columns }, source: PatchSource::Patches(patches) }
    }
}

impl From<Patches> for PreparedImage {
    fn from(patches: Patches) -> Self {
        Arc::new(patches).into()
    }
}

impl fmt::Debug for PreparedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = matches!(self.source, PatchSource::Patches(_));
        f.debug_struct("PreparedImage").field("grid", &self.grid).field("held", &held).finish()
    }
}
