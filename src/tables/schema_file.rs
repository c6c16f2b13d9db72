//! The tables' descriptions as files: `schemas/<table>.json`, which people and other programs read.

use serde::Serialize;

use super::row::{Column, TableRow, type_text};
use super::writer::PROFILE;
use super::{
    AnswerRow, BenchmarkRow, CurriculumRow, DemonstrationRow, ImageRow, Measurement, MetricRow, PredictionRow,
    QuestionRow, RejectRow, RewardRow, SceneObjectRow, SceneQuestionRow, SceneTruthRow, ScoreRow, SourceRow, TimingRow,
    VoteRow,
};
use crate::ids::Digest;

/// A generated file that is kept under version control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The file's name within its folder.
    pub name: String,
    /// What it holds.
    pub text: String,
}

impl Document {
    /// A document of `value` as JSON for people: indented, fields in the order of declaration, a line end at the end.
    pub fn json<T: Serialize>(name: impl Into<String>, value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self { name: name.into(), text: serde_json::to_string_pretty(value)? + "\n" })
    }
}

/// A description for each table.
pub fn documents() -> Result<Vec<Document>, serde_json::Error> {
    [
        Description::of::<ImageRow>(),
        Description::of::<RejectRow>(),
        Description::of::<SourceRow>(),
        Description::of::<Measurement>(),
        Description::of::<QuestionRow>(),
        Description::of::<AnswerRow>(),
        Description::of::<VoteRow>(),
        Description::of::<CurriculumRow>(),
        Description::of::<RewardRow>(),
        Description::of::<MetricRow>(),
        Description::of::<TimingRow>(),
        Description::of::<PredictionRow>(),
        Description::of::<ScoreRow>(),
        Description::of::<BenchmarkRow>(),
        Description::of::<DemonstrationRow>(),
        Description::of::<SceneObjectRow>(),
        Description::of::<SceneQuestionRow>(),
        Description::of::<SceneTruthRow>(),
    ]
    .iter()
    .map(|description| Document::json(format!("{}.json", description.table), description))
    .collect()
}

#[derive(Serialize)]
struct Description {
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

impl Description {
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
