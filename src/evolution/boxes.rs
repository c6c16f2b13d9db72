//! Shares of answers with a box beside the accuracies of a round's report.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::finished::FinishedRound;
use crate::analysis::boxes::boxed_share;
use crate::stages::StageError;
use crate::store::Store;
use crate::tables::{self, PredictionBox, PredictionRow, TableRow};

/// The shares of answers with a box before and after a round, by benchmark and protocol.
pub type BoxedShares = BTreeMap<(String, String), BeforeAndAfter>;

/// The share of answers with a box, by the Reasoner before a round and after it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct BeforeAndAfter {
    /// Before the round.
    pub before: Option<f64>,
    /// After the round.
    pub after: Option<f64>,
}

/// Computes the shares from the predictions of a round, which stay as they are.
///
/// # Errors
/// The predictions cannot be read.
pub fn boxed_shares(store: &Store, done: &FinishedRound) -> Result<BoxedShares, StageError> {
    let mut rows = Vec::<PredictionBox>::new();
    for output in done.result.outputs_of(PredictionRow::TABLE) {
        let bytes = Bytes::from(store.read_object(output.object)?);
        rows.extend(tables::read::<PredictionBox>(output.object.name(), bytes)?);
    }
    let after = done.report.reasoner_model;
    let mut shares = BoxedShares::new();
    for change in &done.report.scores {
        let share = |is_after: bool| {
            let is_selected = |row: &PredictionBox| {
                (&row.benchmark, &row.protocol) == (&change.benchmark, &change.protocol)
                    && (row.model_id == after) == is_after
            };
            boxed_share(&rows, is_selected)
        };
        let after = share(true);
        // A round that changes nothing has one set of predictions.
        let before = share(false).or(after.filter(|_| change.before[0].is_some()));
        shares.insert((change.benchmark.clone(), change.protocol.clone()), BeforeAndAfter { before, after });
    }
    Ok(shares)
}
