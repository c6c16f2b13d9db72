//! Stages of the pipeline, and the shard runner that they share.

pub mod answers;
pub mod compute_identity;
pub mod curriculum;
mod error;
pub mod evaluation;
pub mod image_set;
pub mod ingest;
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
mod shared_while_used;
mod training_state;
pub mod update;
pub mod warm_start;

pub use self::error::StageError;
pub use self::output::TableOutput;
pub use self::progress::{Interrupt, NoProgress, Progress};
pub use self::rejection::Rejection;
pub use self::runner::{Runner, ShardOutput, Stage, StageRun};

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::ids::Digest;
use crate::store::{Action, Input, ObjectId, ObjectKind, Output, StageResult, Store, StoreError};
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

/// Stores the rows that a shard covers, so that its action can name them by digest.
fn put_listing<T: Serialize + ?Sized>(store: &Store, rows: &T) -> Result<ObjectId, StageError> {
    let listing = crate::canonical::to_canonical(rows).map_err(StoreError::from)?;
    Ok(store.put_object(&listing, ObjectKind::Json)?)
}

/// Reads a table from the objects of results, in order.
///
/// # Errors
/// An object is missing or damaged.
pub fn read_rows<R: TableRow>(store: &Store, results: &[StageResult]) -> Result<Vec<R>, StageError> {
    let mut rows = Vec::new();
    for output in results.iter().flat_map(|result| result.outputs_of(R::TABLE)) {
        let bytes = Bytes::from(store.read_object(output.object)?);
        rows.extend(tables::read::<R>(output.object.name(), bytes)?);
    }
    Ok(rows)
}
