//! Results: what came of an action.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::action::ActionKey;
use super::error::StoreError;
use super::layout::ObjectId;
use super::process::Process;
use crate::canonical::to_canonical;
use crate::ids::Digest;

/// What came of an action. The first result of an action that is published is its result for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageResult {
    /// The action's key.
    pub action: ActionKey,
    /// The objects made (or taken over from an earlier result), in reading order.
    pub outputs: Vec<Output>,
    /// The reconciliation of rows.
    pub counts: Counts,
    /// Further figures of the stage that are functions of its action, such as counts by reason.
    pub figures: BTreeMap<String, u64>,
    /// The results that it was made from: its lineage, for people and for `gc`.
    pub upstream: Vec<ActionKey>,
    /// Where and when it ran: for people, never part of what the result is.
    pub run: RunInfo,
}

/// An object that a result names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The table, or another part that it plays.
    pub role: String,
    /// The object.
    pub object: ObjectId,
    /// Rows, for tables.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Rows in and out of a stage: `rows_in == rows_out + rejects`, checked by the runner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows that went on.
    pub rows_out: u64,
    /// Rows left out, each a row of the `rejects` table.
    pub rejects: u64,
}

impl Counts {
    /// Whether every row is accounted for.
    pub fn reconcile(&self) -> bool {
        self.rows_in == self.rows_out + self.rejects
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
        self.rejects += other.rejects;
    }
}

/// Where and when a result was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInfo {
    /// The process.
    pub process: Process,
    /// The program's version.
    pub program: String,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl StageResult {
    /// The result's digest: over the action, the outputs and the figures, so that two runs of one action agree on it.
    pub fn digest(&self) -> Result<Digest, StoreError> {
        let content = (&self.action, &self.outputs, &self.counts, &self.figures);
        Ok(Digest::of(&to_canonical(&content)?))
    }

    /// The outputs that play a part, in order.
    pub fn outputs_of<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a Output> {
        self.outputs.iter().filter(move |o| o.role == role)
    }

    /// The rows of a table.
    pub fn rows_of(&self, role: &str) -> u64 {
        self.outputs_of(role).map(|o| o.rows).sum()
    }
}
