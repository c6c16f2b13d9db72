//! An image as prompts share it: processed once, encoded once.

use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Result, Tensor};

use crate::vlm::grid::Grid;
use crate::vlm::image_processor::Patches;
use crate::vlm::model::Model;

/// Patches, and what the vision tower makes of them once somebody asks.
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
    /// An image that is not encoded yet.
    pub fn new(patches: Patches) -> Self {
        let [frames, rows, columns] = patches.grid;
        Self { grid: Grid { frames, rows, columns }, state: Mutex::new(State::Patches(patches.values)) }
    }

    /// The grid of its patches.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Its image tokens, `[tokens, hidden]`; the first call runs the vision tower, and others wait for it.
    pub fn features(&self, model: &Model) -> Result<Tensor> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Features(features) = &*state {
            return Ok(features.clone());
        }
        let State::Patches(values) = &mut *state else { unreachable!("features were returned above") };
        let shape = (self.grid.patches(), values.len() / self.grid.patches().max(1));
        let patches = Tensor::from_slice(values, shape, &Device::Cpu)?;
        let features = model.visual.forward(&patches, &[self.grid])?;
        *state = State::Features(features.clone());
        Ok(features)
    }
}
