//! Weights after single training steps, for workers that sample with them but did not make the
//! update. They save the recomputation of updates and may be lost at any time.

use std::path::PathBuf;

use super::backend::{Durability, PublishMode, StagedFile};
use super::error::StoreError;
use super::{Store, layout};
use crate::ids::{Digest, ModelId};

/// A stored file of weights after a training step.
#[derive(Debug, Clone)]
pub struct StepWeights {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Digest of its bytes.
    pub digest: Digest,
}

impl Store {
    /// Publishes the weights with this id.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn publish_step_weights(&self, model: ModelId, staged: StagedFile) -> Result<(), StoreError> {
        let name = format!("{}{}.safetensors", prefix(model), staged.digest().0);
        self.backend.publish(staged, &name, PublishMode::Replace, Durability::Volatile).map(|_| ())
    }

    /// Finds the weights with this id; `None` if the store does not have them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn step_weights(&self, model: ModelId) -> Result<Option<StepWeights>, StoreError> {
        let prefix = prefix(model);
        let entries = self.backend.list(layout::STEPS)?.into_iter();
        Ok(entries.filter(|entry| entry.is_file).find_map(|entry| {
            let digest = entry.name.strip_prefix(&prefix)?.strip_suffix(".safetensors")?.parse().ok()?;
            Some(StepWeights { path: entry.path, bytes: entry.len, digest })
        }))
    }

    /// Removes the weights with these ids, which nobody needs any more.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn remove_step_weights(&self, models: &[ModelId]) -> Result<(), StoreError> {
        let prefixes: Vec<String> = models.iter().map(|&model| prefix(model)).collect();
        for entry in self.backend.list(layout::STEPS)? {
            if prefixes.iter().any(|prefix| entry.name.starts_with(prefix)) {
                self.backend.remove(&entry)?;
            }
        }
        Ok(())
    }
}

fn prefix(model: ModelId) -> String {
    format!("{}/{}-", layout::STEPS, model.0)
}
