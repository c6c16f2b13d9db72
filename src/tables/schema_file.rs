//! Descriptions of the tables for people and other programs, stored as `schemas/<table>.json`.

use serde::Serialize;

use super::{
    AnswerRow, BenchmarkRow, Column, CurriculumRow, DemonstrationRow, ImageRow, Measurement, MetricRow, PROFILE,
    PredictionRow, QuestionRow, RejectRow, RewardRow, SceneObjectRow, SceneQuestionRow, SceneTruthRow, ScoreRow,
    SourceRow, TableRow, TimingRow, VoteRow,
};
use crate::ids::Digest;

/// A generated file that is kept under version control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaDocument {
    /// Name of the file within its folder.
    pub name: String,
    /// Contents of the file.
    pub text: String,
}

impl SchemaDocument {
    /// Formats `value` as indented JSON with fields in order of declaration and a final newline.
    pub fn json<T: Serialize>(name: impl Into<String>, value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self { name: name.into(), text: serde_json::to_string_pretty(value)? + "\n" })
    }
}

/// Returns one document per table.
pub fn documents() -> Result<Vec<SchemaDocument>, serde_json::Error> {
    macro_rules! describe {
        ($($row:ident)+) => { [$(TableDescription::of::<$row>()),+] };
    }
    let descriptions = describe! {
        ImageRow RejectRow SourceRow Measurement QuestionRow AnswerRow VoteRow CurriculumRow RewardRow MetricRow
        TimingRow PredictionRow ScoreRow BenchmarkRow DemonstrationRow SceneObjectRow SceneQuestionRow SceneTruthRow
    };
    descriptions
        .iter()
        .map(|description| SchemaDocument::json(format!("{}.json", description.table), description))
        .collect()
}

#[derive(Serialize)]
struct TableDescription {
    table: &'static str,
    row: String,
    schema_id: Digest,
    writer_profile: u32,
    columns: Vec<Column>,
}

impl TableDescription {
    fn of<R: TableRow>() -> Self {
        Self {
            table: R::TABLE,
            row: R::doc(),
            schema_id: R::schema_id(),
            writer_profile: PROFILE.number,
            columns: R::columns(),
        }
    }
}
