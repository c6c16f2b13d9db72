//! An image that several prompts share: preprocessed once, encoded once.

use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Result, Tensor};

use crate::vlm::grid::Grid;
use crate::vlm::image_processor::Patches;
use crate::vlm::model::Model;

/// An image's patches, replaced by its features when they are first needed.
#[derive(Debug)]
pub struct ImageInput {
    grid: Grid,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Patches(Vec<f32>),
    Features(Tensor),
}

impl ImageInput {
    /// Returns an image that is not encoded yet.
    pub fn new(patches: Patches) -> Self {
        let [frames, rows, columns] = patches.grid;
        Self { grid: Grid { frames, rows, columns }, state: Mutex::new(State::Patches(patches.values)) }
    }

    /// Returns the patch grid.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Returns the image features, `[image tokens, hidden]`. The first call runs the vision tower;
    /// concurrent calls wait for it.
    pub fn features(&self, model: &Model) -> Result<Tensor> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let values = match &*state {
            State::Features(features) => return Ok(features.clone()),
            State::Patches(values) => values,
        };
        let shape = (self.grid.patches(), values.len() / self.grid.patches().max(1));
        let patches = Tensor::from_slice(values, shape, &Device::Cpu)?;
        let features = model.visual.forward(&patches, &[self.grid])?;
        *state = State::Features(features.clone());
        Ok(features)
    }
}
