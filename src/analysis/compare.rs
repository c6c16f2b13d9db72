//! Comparison of two results of one action: by the digests of their objects, else by their rows,
//! else within tolerances.

use std::collections::HashMap;

use bytes::Bytes;
use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::store::{ObjectKind, Output, StageResult};
use crate::tables::{
    self, AnswerRow, CurriculumRow, ImageRow, Measurement, MetricRow, PredictionRow, QuestionRow, RejectRow, RewardRow,
    ScoreRow, SourceRow, TableRow, VoteRow,
};

/// Largest difference of log-probabilities within tolerances.
pub const LOGPROB_TOLERANCE: f64 = 1e-5;
/// Largest difference of weights within tolerances.
pub const WEIGHT_TOLERANCE: f64 = 1e-5;
/// Largest difference of other numbers within tolerances: an absolute part, plus a part relative to
/// the larger number.
pub const NUMBER_TOLERANCE: (f64, f64) = (1e-5, 1e-4);
/// Number of differences listed per result.
const MAX_LISTED: usize = 3;

/// How closely two results agree, strictest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatchLevel {
    /// All objects have the same digests.
    Bits,
    /// The rows or tensors are equal but were written differently.
    Rows,
    /// Numbers differ by rounding: log-probabilities and weights by at most 1e-5, other numbers by
    /// 1e-5 plus 1e-4 of their size.
    Tolerances,
}

/// A value that differs between two results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mismatch {
    /// Table, or another part of the result.
    pub table: String,
    /// Id of the row, or name within the part.
    pub row: String,
    /// Column.
    pub column: String,
    /// Stored value.
    pub stored: Value,
    /// Recomputed value.
    #[serde(rename = "again")]
    pub recomputed: Value,
}

/// Outcome of comparing two results.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ComparisonResult {
    /// Strictest level that holds; `None` if none does.
    pub level: Option<MatchLevel>,
    /// First differences found, if no level holds.
    pub mismatches: Vec<Mismatch>,
    /// Largest difference of numbers compared within tolerances.
    pub largest: Option<f64>,
}

/// Compares a stored result with a recomputed one. Two functions read an output, one for either
/// result; `is_dropped` says whether a stored output was dropped, so that only its digest is left.
pub fn compare_results<E: std::fmt::Display>(
    stored: &StageResult,
    recomputed: &StageResult,
    (read_stored, read_recomputed): (impl Fn(&Output) -> Result<Vec<u8>, E>, impl Fn(&Output) -> Result<Vec<u8>, E>),
    is_dropped: impl Fn(&Output) -> bool,
) -> ComparisonResult {
    let mut comparison = ComparisonResult::at_level(MatchLevel::Bits);
    if (&stored.counts, &stored.statistics) != (&recomputed.counts, &recomputed.statistics) {
        let counted = |result: &StageResult| serde_json::json!({"counts": result.counts, "figures": result.statistics});
        comparison.compare_values("result", "counts and figures", "", &counted(stored), &counted(recomputed));
    }
    let roles = |result: &StageResult| result.outputs.iter().map(|output| output.role.clone()).collect::<Vec<_>>();
    if roles(stored) != roles(recomputed) {
        comparison.add_mismatch("result", "outputs", "role", roles(stored).into(), roles(recomputed).into());
        return comparison;
    }
    for (a, b) in stored.outputs.iter().zip(&recomputed.outputs) {
        let digest = |output: &Output| Value::from(output.object.to_string());
        if is_dropped(a) {
            // The digest of the second was computed from the bytes that were just recomputed.
            if a.object != b.object {
                comparison.add_mismatch(&a.role, "", "digest of an object that was dropped", digest(a), digest(b));
            }
            continue;
        }
        match (read_stored(a), read_recomputed(b)) {
            // Objects are checked against their digests when read, so equal names mean equal bytes.
            (Ok(_), Ok(_)) if a.object == b.object => {}
            (Ok(one), Ok(other)) => comparison.compare_objects(a, one, other),
            (Err(e), _) => comparison.add_mismatch(&a.role, "", "object", format!("{e}").into(), digest(b)),
            (_, Err(e)) => comparison.add_mismatch(&a.role, "", "object", digest(a), format!("{e}").into()),
        }
    }
    comparison
}

impl ComparisonResult {
    /// Begins a comparison in which nothing differs so far.
    fn at_level(level: MatchLevel) -> Self {
        Self { level: Some(level), ..Self::default() }
    }

    /// Lowers the match level to `level`, if it is stricter.
    fn lower_level(&mut self, level: MatchLevel) {
        self.level = self.level.map(|current| current.max(level));
    }

    fn add_mismatch(&mut self, table: &str, row: &str, column: &str, stored: Value, recomputed: Value) {
        self.level = None;
        if self.mismatches.len() < MAX_LISTED {
            let (table, row, column) = (table.to_owned(), row.to_owned(), column.to_owned());
            self.mismatches.push(Mismatch { table, row, column, stored, recomputed });
        }
    }

    fn compare_objects(&mut self, output: &Output, stored: Vec<u8>, recomputed: Vec<u8>) {
        self.lower_level(MatchLevel::Rows);
        let table = output.role.as_str();
        match output.object.kind {
            ObjectKind::Parquet => match (read_rows(table, stored), read_rows(table, recomputed)) {
                (Ok(stored), Ok(recomputed)) => self.compare_rows(table, &stored, &recomputed),
                (Err(e), _) | (_, Err(e)) => self.add_mismatch(table, "", "", e.into(), Value::Null),
            },
            ObjectKind::Json => {
                let [a, b] = [stored, recomputed].map(|bytes| serde_json::from_slice(&bytes).unwrap_or(Value::Null));
                self.compare_values(table, "", "", &a, &b);
            }
            ObjectKind::Safetensors => match (read_tensors(&stored), read_tensors(&recomputed)) {
                (Ok(stored), Ok(recomputed)) => self.compare_tensors(table, &stored, &recomputed),
                (Err(e), _) | (_, Err(e)) => self.add_mismatch(table, "", "", e.to_string().into(), Value::Null),
            },
        }
    }

    fn compare_rows(&mut self, table: &str, stored: &[Value], recomputed: &[Value]) {
        if stored.len() != recomputed.len() {
            self.add_mismatch(table, "", "number of rows", stored.len().into(), recomputed.len().into());
        }
        for (a, b) in stored.iter().zip(recomputed) {
            if a != b {
                self.compare_values(table, &row_id(table, a), "", a, b);
            }
        }
    }

    /// Compares two values; `column` is their path in the row.
    fn compare_values(&mut self, table: &str, row: &str, column: &str, a: &Value, b: &Value) {
        match (a, b) {
            _ if a == b => {}
            (Value::Object(x), Value::Object(y)) => {
                let names: std::collections::BTreeSet<&String> = x.keys().chain(y.keys()).collect();
                for name in names {
                    let path = if column.is_empty() { name.clone() } else { format!("{column}.{name}") };
                    let value_of = |side: &Map<String, Value>| side.get(name).cloned().unwrap_or_default();
                    self.compare_values(table, row, &path, &value_of(x), &value_of(y));
                }
            }
            (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
                for (n, (x, y)) in x.iter().zip(y).enumerate() {
                    self.compare_values(table, row, &format!("{column}[{n}]"), x, y);
                }
            }
            (Value::Number(x), Value::Number(y)) if x.is_f64() || y.is_f64() => {
                let [x, y] = [x, y].map(|number| number.as_f64().unwrap_or(f64::NAN));
                let allowed = if column.starts_with("logprobs") {
                    LOGPROB_TOLERANCE
                } else {
                    NUMBER_TOLERANCE.0 + NUMBER_TOLERANCE.1 * x.abs().max(y.abs())
                };
                if !self.is_near(x, y, allowed) {
                    self.add_mismatch(table, row, column, a.clone(), b.clone());
                }
            }
            _ => self.add_mismatch(table, row, column, a.clone(), b.clone()),
        }
    }

    fn is_near(&mut self, a: f64, b: f64, allowed: f64) -> bool {
        let difference = (a - b).abs();
        self.largest = Some(self.largest.unwrap_or(0.0).max(difference));
        // NaN is not near anything.
        let near = difference <= allowed;
        if near && difference > 0.0 {
            self.lower_level(MatchLevel::Tolerances);
        }
        near
    }

    fn compare_tensors(&mut self, part: &str, stored: &Tensors, recomputed: &Tensors) {
        let names: std::collections::BTreeSet<&String> = stored.keys().chain(recomputed.keys()).collect();
        for name in names {
            match (stored.get(name), recomputed.get(name)) {
                (Some(a), Some(b)) if a.len() == b.len() => {
                    for (n, (&a, &b)) in a.iter().zip(b).enumerate() {
                        if a.to_bits() != b.to_bits() && !self.is_near(a.into(), b.into(), WEIGHT_TOLERANCE) {
                            self.add_mismatch(part, name, &format!("[{n}]"), a.into(), b.into());
                            break;
                        }
                    }
                }
                (a, b) => {
                    let elements = |side: Option<&Vec<f32>>| side.map_or(Value::Null, |values| values.len().into());
                    self.add_mismatch(part, name, "number of elements", elements(a), elements(b));
                }
            }
        }
    }
}

/// Values of tensors by name.
type Tensors = HashMap<String, Vec<f32>>;

fn read_tensors(bytes: &[u8]) -> candle_core::Result<Tensors> {
    let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)?;
    let values = |tensor: Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    tensors.into_iter().map(|(name, tensor)| Ok((name, values(tensor)?))).collect()
}

/// Declares the tables of results: their row types, and the columns that identify a row.
macro_rules! tables {
    ($($row:ty: $columns:expr,)+) => {
        /// Reads the rows of a table as JSON values.
        fn read_rows(table: &str, bytes: Vec<u8>) -> Result<Vec<Value>, String> {
            match table {
                $(<$row>::TABLE => read_table::<$row>(table, bytes),)+
                _ => Err(format!("{table} is no table of a result")),
            }
        }

        fn id_columns(table: &str) -> &'static [&'static str] {
            match table {
                $(<$row>::TABLE => &$columns,)+
                _ => &[],
            }
        }
    };
}

tables! {
    AnswerRow: ["answer_id"],
    CurriculumRow: ["question_id"],
    ImageRow: ["image_id"],
    Measurement: ["image_id"],
    MetricRow: ["role", "step"],
    PredictionRow: ["item_id", "protocol", "sample"],
    QuestionRow: ["question_id"],
    RejectRow: ["subject"],
    RewardRow: ["subject_id"],
    ScoreRow: ["benchmark", "category", "protocol"],
    SourceRow: ["source", "source_row"],
    VoteRow: ["question_id"],
}

fn read_table<R: TableRow + Serialize>(table: &str, bytes: Vec<u8>) -> Result<Vec<Value>, String> {
    let rows = tables::read::<R>(table, Bytes::from(bytes)).map_err(|e| e.to_string())?;
    rows.iter().map(|row| serde_json::to_value(row).map_err(|e| e.to_string())).collect()
}

/// Returns the id of a row: the values of the columns that identify it.
fn row_id(table: &str, row: &Value) -> String {
    let text = |column: &&str| match &row[*column] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    id_columns(table).iter().map(text).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn level(a: &Value, b: &Value) -> Option<MatchLevel> {
        let mut comparison = ComparisonResult::at_level(MatchLevel::Rows);
        comparison.compare_values("answers", "r", "", a, b);
        comparison.level
    }

    #[test]
    fn match_levels_are_distinguished() {
        let row = json!({"logprobs": [-0.5, -1.25], "token_ids": [3], "text": "a"});
        let with = |column: &str, value: Value| {
            let mut other = row.clone();
            other[column] = value;
            other
        };
        assert_eq!(level(&row, &row), Some(MatchLevel::Rows));
        assert_eq!(level(&row, &with("logprobs", json!([-0.500_001, -1.25]))), Some(MatchLevel::Tolerances));
        assert_eq!(level(&row, &with("logprobs", json!([-0.501, -1.25]))), None);
        assert_eq!(level(&row, &with("logprobs", json!([-0.5]))), None);
        assert_eq!(level(&row, &with("token_ids", json!([4]))), None);
        assert_eq!(level(&row, &with("text", json!(null))), None);
        assert_eq!(level(&json!({"loss": 1000.0}), &json!({"loss": 1000.05})), Some(MatchLevel::Tolerances));
        assert_eq!(level(&json!({"loss": 1.0}), &json!({"loss": 1.05})), None);
    }

    #[test]
    fn a_difference_names_its_row_and_column() {
        let mut comparison = ComparisonResult::at_level(MatchLevel::Bits);
        let row = |last: f64| json!({"logprobs": [1.0, last]});
        comparison.compare_values("answers", "r", "", &row(2.0), &row(2.5));
        assert_eq!(comparison.level, None);
        let mismatch = &comparison.mismatches[0];
        assert_eq!((mismatch.row.as_str(), mismatch.column.as_str()), ("r", "logprobs[1]"));
        assert_eq!(mismatch.recomputed, json!(2.5));
    }

    #[test]
    fn weights_have_a_tolerance() {
        let weights = |value: f32| HashMap::from([("w".to_owned(), vec![1.0, value])]);
        let level = |a: f32, b: f32| {
            let mut comparison = ComparisonResult::at_level(MatchLevel::Rows);
            comparison.compare_tensors("weights", &weights(a), &weights(b));
            comparison.level
        };
        assert_eq!(level(0.5, 0.5), Some(MatchLevel::Rows));
        assert_eq!(level(0.5, 0.500_001), Some(MatchLevel::Tolerances));
        assert_eq!(level(0.5, 0.6), None);
        assert_eq!(level(0.5, f32::NAN), None);
    }
}
