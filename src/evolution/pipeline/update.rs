//! `[update.questioner]` and `[update.reasoner]`: the training settings of each role.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stages::update::UpdateSettings;

/// The training settings of both roles.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Updates {
    /// Training of the Questioner; 0 steps freeze it.
    pub questioner: UpdateSettings,
    /// Training of the Reasoner.
    pub reasoner: UpdateSettings,
}
