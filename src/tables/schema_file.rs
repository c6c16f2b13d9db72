//! Descriptions of the tables for people and other programs, stored as `schemas/<table>.json`.

use serde::Serialize;

use super::answers::AnswerRow;
use super::benchmarks::BenchmarkRow;
use super::curriculum::CurriculumRow;
use super::demonstrations::DemonstrationRow;
use super::images::ImageRow;
use super::measurements::Measurement;
use super::metrics::MetricRow;
use super::predictions::PredictionRow;
use super::questions::QuestionRow;
use super::rejects::RejectRow;
use super::rewards::RewardRow;
use super::row::{Column, TableRow, type_text};
use super::scene_objects::SceneObjectRow;
use super::scene_questions::SceneQuestionRow;
use super::scene_truths::SceneTruthRow;
use super::scores::ScoreRow;
use super::sources::SourceRow;
use super::timings::TimingRow;
use super::votes::VoteRow;
use super::writer::PROFILE;
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
    [
        TableDescription::of::<ImageRow>(),
        TableDescription::of::<RejectRow>(),
        TableDescription::of::<SourceRow>(),
        TableDescription::of::<Measurement>(),
        TableDescription::of::<QuestionRow>(),
        TableDescription::of::<AnswerRow>(),
        TableDescription::of::<VoteRow>(),
        TableDescription::of::<CurriculumRow>(),
        TableDescription::of::<RewardRow>(),
        TableDescription::of::<MetricRow>(),
        TableDescription::of::<TimingRow>(),
        TableDescription::of::<PredictionRow>(),
        TableDescription::of::<ScoreRow>(),
        TableDescription::of::<BenchmarkRow>(),
        TableDescription::of::<DemonstrationRow>(),
        TableDescription::of::<SceneObjectRow>(),
        TableDescription::of::<SceneQuestionRow>(),
        TableDescription::of::<SceneTruthRow>(),
    ]
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
    columns: Vec<ColumnDescription>,
}

#[derive(Serialize)]
struct ColumnDescription {
    name: &'static str,
    #[serde(rename = "type")]
    data_type: String,
    nullable: bool,
    doc: String,
}

impl TableDescription {
    fn of<R: TableRow>() -> Self {
        Self {
            table: R::TABLE,
            row: R::doc(),
            schema_id: R::schema_id(),
            writer_profile: PROFILE.number,
            columns: R::columns().into_iter().map(ColumnDescription::of).collect(),
        }
    }
}

impl ColumnDescription {
    fn of(column: Column) -> Self {
        let Column { name, doc, data_type, nullable } = column;
        Self { name, data_type: type_text(&data_type), nullable, doc }
    }
}
