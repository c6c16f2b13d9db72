//! `[update.questioner]` and `[update.reasoner]`: how each role is trained.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stages::update::UpdateSettings;

/// Both roles' training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Updates {
    /// The Questioner's; 0 steps freeze it.
    pub questioner: UpdateSettings,
    /// The Reasoner's.
    pub reasoner: UpdateSettings,
}
