//! The curriculum of the labelled baseline: given questions with their true answers, in place of
//! the model's own questions and pseudo-labels.

use std::collections::BTreeMap;

use serde_json::json;

use super::CURRICULUM;
use crate::ids::QuestionId;
use crate::stages::evaluation::{BenchmarkEntry, Item, RejectedItem};
use crate::stages::{ListedRows, Result, Runner, ShardOutput, Stage, TableOutput, new_action, schema};
use crate::store::{Action, Counts, Store};
use crate::tables::{CurriculumRow, RejectRow};

const VERSION: u32 = 1;

/// The `curriculum.labelled` stage. It is the only way in which a true label reaches training, and
/// only where a pipeline asks for it.
pub struct LabelledCurriculum(ListedRows<BenchmarkEntry>);

impl LabelledCurriculum {
    /// Stores `items`, and the `rejected` rows of their file, and returns the stage that makes them
    /// a curriculum.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn new(store: &Store, items: Vec<Item>, rejected: Vec<RejectedItem>) -> Result<Self> {
        let rejected = rejected.into_iter().map(BenchmarkEntry::Rejected);
        Ok(Self(ListedRows::new(store, items.into_iter().map(BenchmarkEntry::Item).chain(rejected).collect())?))
    }
}

impl Stage for LabelledCurriculum {
    type Shard = ();
    const PHASE: &'static str = "taking the labelled questions";

    fn action(&self, _shard: &()) -> Action {
        let mut action = Action {
            parameters: BTreeMap::from([("labels".into(), json!("true"))]),
            inputs: self.0.inputs("items"),
            ..new_action(&format!("{CURRICULUM}.labelled"), VERSION, [schema::<CurriculumRow>()])
        };
        if self.0.rows.iter().any(|row| row.rejected().is_some()) {
            action.schemas.extend([schema::<RejectRow>()]);
        }
        action
    }

    fn run_shard(&self, _shard: &(), runner: &Runner<'_>) -> Result<ShardOutput> {
        let rows = self.0.rows.iter().filter_map(BenchmarkEntry::item).map(|item| CurriculumRow {
            question_id: QuestionId(item.item_id.0),
            image_id: item.image_id,
            problem: item.question.clone(),
            pseudo_label: item.gold.clone(),
            confidence: 1.0,
            margin: 1.0,
            question_type: None,
        });
        let mut outputs = vec![TableOutput::write_all(runner.store, rows)?];
        let rejected = self.0.rows.iter().filter_map(BenchmarkEntry::rejected);
        let rejects: Vec<RejectRow> = rejected.map(|rejected| rejected.to_row(CURRICULUM)).collect();
        let mut statistics = BTreeMap::new();
        for reject in &rejects {
            *statistics.entry(format!("rejected.{}", reject.reason)).or_insert(0) += 1;
        }
        let (rows_in, rejected) = (self.0.rows.len() as u64, rejects.len() as u64);
        if !rejects.is_empty() {
            outputs.push(TableOutput::write_all(runner.store, rejects)?);
        }
        runner.progress.advance(1);
        let counts = Counts { rows_in, rows_out: rows_in - rejected, rejects: rejected };
        Ok(ShardOutput { outputs, counts, statistics, ..ShardOutput::default() })
    }
}
