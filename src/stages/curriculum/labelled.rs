//! The curriculum of the labelled baseline: given questions with their true answers, in place of
//! the model's own questions and pseudo-labels.

use std::collections::BTreeMap;

use serde_json::json;

use super::CURRICULUM;
use crate::ids::QuestionId;
use crate::stages::evaluation::Item;
use crate::stages::{ListedRows, Result, Runner, ShardOutput, Stage, TableOutput, new_action, schema};
use crate::store::{Action, Counts, Store};
use crate::tables::CurriculumRow;

const VERSION: u32 = 1;

/// The `curriculum.labelled` stage. It is the only way in which a true label reaches training, and
/// only where a pipeline asks for it.
pub struct LabelledCurriculum(ListedRows<Item>);

impl LabelledCurriculum {
    /// Stores `items` and returns the stage that makes them a curriculum.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn new(store: &Store, items: Vec<Item>) -> Result<Self> {
        Ok(Self(ListedRows::new(store, items)?))
    }
}

impl Stage for LabelledCurriculum {
    type Shard = ();
    const PHASE: &'static str = "taking the labelled questions";

    fn action(&self, _shard: &()) -> Action {
        Action {
            parameters: BTreeMap::from([("labels".into(), json!("true"))]),
            inputs: self.0.inputs("items"),
            ..new_action(&format!("{CURRICULUM}.labelled"), VERSION, [schema::<CurriculumRow>()])
        }
    }

    fn run_shard(&self, _shard: &(), runner: &Runner<'_>) -> Result<ShardOutput> {
        let rows = self.0.rows.iter().map(|item| CurriculumRow {
            question_id: QuestionId(item.item_id.0),
            image_id: item.image_id,
            problem: item.question.clone(),
            pseudo_label: item.gold.clone(),
            confidence: 1.0,
            margin: 1.0,
            question_type: None,
        });
        let outputs = vec![TableOutput::write_all(runner.store, rows)?];
        runner.progress.advance(1);
        let n = self.0.rows.len() as u64;
        Ok(ShardOutput { outputs, counts: Counts { rows_in: n, rows_out: n, rejects: 0 }, ..ShardOutput::default() })
    }
}
