//! Stages of the pipeline, and the shard runner that they share.

pub mod answers;
pub mod compute_identity;
pub mod curriculum;
mod error;
pub mod evaluation;
pub mod image_set;
pub mod ingest;
mod linked_file;
mod listed_rows;
pub mod model;
mod output;
mod progress;
pub mod prompt_sampler;
pub mod question_form;
pub mod questions;
mod rejection;
pub mod rewards;
pub mod role_prompt;
mod runner;
mod shard_watch;
mod shared_while_used;
mod training_state;
pub mod update;
pub mod warm_start;
mod worker;

pub use self::error::{Result, StageError};
pub use self::listed_rows::ListedRows;
pub use self::output::TableOutput;
pub use self::progress::{DrainCause, Interrupt, NoProgress, Progress, ShardCounts, ShardEvent};
pub use self::rejection::Rejection;
pub use self::runner::{IdleClock, Runner, ShardOutput, Stage, StageRun};
pub use self::training_state::OPTIMIZER;
pub use self::worker::{Worker, WorkerSpec};

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ids::Digest;
use crate::store::{Action, Input, ObjectId, Output, StageResult, Store};
use crate::tables::{self, PROFILE, TableRow};

/// Returns an action of a stage that writes tables of these schemas, with everything else empty:
/// parameters, seed, inputs, model and shard.
fn new_action<const N: usize>(stage: &str, stage_version: u32, schemas: [(String, Digest); N]) -> Action {
    Action {
        stage: stage.to_owned(),
        stage_version,
        schemas: BTreeMap::from(schemas),
        writer_profile: PROFILE.number,
        ..Action::default()
    }
}

/// Returns a number that a table can store; `None` for infinity and NaN.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Returns the name and the schema id of a table, as an action lists them.
fn schema<R: TableRow>() -> (String, Digest) {
    (R::TABLE.to_owned(), R::schema_id())
}

/// Returns outputs of results as inputs of an action.
fn inputs<'o>(outputs: impl IntoIterator<Item = &'o Output>) -> Vec<Input> {
    outputs.into_iter().map(|output| Input { role: output.role.clone(), object: output.object }).collect()
}

/// Returns the outputs of results that belong to one table, as inputs of an action.
fn table_inputs(results: &[StageResult], table: &str) -> Vec<Input> {
    inputs(results.iter().flat_map(|result| result.outputs_of(table)))
}

/// Reads a table from the objects of results, in order.
///
/// # Errors
/// An object is missing or damaged.
pub fn read_rows<R: TableRow>(store: &Store, results: &[StageResult]) -> Result<Vec<R>> {
    let mut rows = Vec::new();
    for output in results.iter().flat_map(|result| result.outputs_of(R::TABLE)) {
        rows.extend(read_object(store, output.object)?);
    }
    Ok(rows)
}

/// Reads one object of a table.
fn read_object<R: TableRow>(store: &Store, object: ObjectId) -> Result<Vec<R>> {
    Ok(tables::read(object.name(), Bytes::from(store.read_object(object)?))?)
}
