//! The curriculum of the labelled baseline: given questions with their true answers, in place of
//! the model's own questions and pseudo-labels.

use std::collections::BTreeMap;

use serde_json::json;

use super::CURRICULUM;
use crate::ids::QuestionId;
use crate::stages::evaluation::Item;
use crate::stages::{Runner, ShardOutput, Stage, StageError, TableOutput, new_action, put_listing, schema};
use crate::store::{Action, Counts, Input, ObjectId, Store};
use crate::tables::CurriculumRow;

const VERSION: u32 = 1;

/// The `curriculum.labelled` stage. It is the only way in which a true label reaches training, and
/// only where a pipeline asks for it.
pub struct LabelledCurriculum {
    items: Vec<Item>,
    listing: ObjectId,
}

impl LabelledCurriculum {
    /// Stores `items` and returns the stage that makes them a curriculum.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn new(store: &Store, items: Vec<Item>) -> Result<Self, StageError> {
        Ok(Self { listing: put_listing(store, &items)?, items })
    }
}

impl Stage for LabelledCurriculum {
    type Shard = ();

    fn phase(&self) -> &'static str {
        "taking the labelled questions"
    }

    fn action(&self, _shard: &()) -> Action {
        Action {
            parameters: BTreeMap::from([("labels".into(), json!("true"))]),
            inputs: vec![Input { role: "items".into(), object: self.listing }],
            ..new_action(&format!("{CURRICULUM}.labelled"), VERSION, [schema::<CurriculumRow>()])
        }
    }

    fn run_shard(&self, _shard: &(), runner: &Runner<'_>) -> Result<ShardOutput, StageError> {
        let rows = self.items.iter().map(|item| CurriculumRow {
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
        let n = self.items.len() as u64;
        Ok(ShardOutput { outputs, counts: Counts { rows_in: n, rows_out: n, rejects: 0 }, ..ShardOutput::default() })
    }
}
