//! Results: the outcome of an action.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::key::ActionKey;
use super::layout::ObjectId;
use super::process::Process;
use crate::batch_job::BatchJob;
use crate::canonical::to_canonical;
use crate::ids::Digest;

/// The outcome of an action. The first result published for an action is final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageResult {
    /// Key of the action.
    pub action: ActionKey,
    /// Objects written, or reused from an earlier result, in reading order.
    pub outputs: Vec<Output>,
    /// Rows in, out and rejected.
    pub counts: Counts,
    /// Further counts that the stage reports, such as rejects by reason. Like the outputs, they are
    /// a function of the action.
    #[serde(rename = "figures")]
    pub statistics: BTreeMap<String, u64>,
    /// Actions whose results this one was computed from: its lineage, for people and for `gc`.
    pub upstream: Vec<ActionKey>,
    /// Where and when it ran; for people only, and not part of the digest.
    pub run: RunInfo,
}

/// An object that a result lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Table name, or another role.
    pub role: String,
    /// The object.
    pub object: ObjectId,
    /// Number of rows, for tables.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// Row counts of a stage. The runner checks that `rows_in == rows_out + rejects`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Rows read.
    pub rows_in: u64,
    /// Rows passed on.
    pub rows_out: u64,
    /// Rows rejected, each listed in the `rejects` table.
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

/// Where and when a result was computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInfo {
    /// Process that ran the action.
    pub process: Process,
    /// Version of the program.
    pub program: String,
    /// The job of a batch system that the process belonged to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<BatchJob>,
    /// Index and name of the GPU, if it computed on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Start time in milliseconds since 1970.
    pub began_ms: u64,
    /// Duration in milliseconds.
    pub took_ms: u64,
}

impl StageResult {
    /// Computes the result's digest, over the action, the outputs and the counts. Two runs of one
    /// action agree on it.
    pub fn digest(&self) -> Result<Digest, StoreError> {
        let content = (&self.action, &self.outputs, &self.counts, &self.statistics);
        Ok(Digest::of(&to_canonical(&content)?))
    }

    /// Returns the outputs with this role, in order.
    pub fn outputs_of<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a Output> {
        self.outputs.iter().filter(move |o| o.role == role)
    }

    /// Returns the number of rows of a table.
    pub fn rows_of(&self, role: &str) -> u64 {
        self.outputs_of(role).map(|o| o.rows).sum()
    }
}
