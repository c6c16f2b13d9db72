//! Share of benchmark answers that have a `\boxed{}`, computed from stored predictions.
//!
//! The grader reads answers from their boxes, so an answer without one counts as wrong. An accuracy
//! says little where few answers have a box: the prompt does not ask for one, or answers were cut
//! off.

use crate::tables::PredictionBox;

/// Share of answers with a box below which an accuracy is reported with a warning.
pub const LOW_SHARE: f64 = 0.5;

/// Returns the share of the selected answers that have a box; `None` without an answer.
pub fn boxed_share(rows: &[PredictionBox], is_selected: impl Fn(&PredictionBox) -> bool) -> Option<f64> {
    let selected: Vec<&PredictionBox> = rows.iter().filter(|row| is_selected(row)).collect();
    let boxed = selected.iter().filter(|row| row.extracted_answer.is_some()).count();
    (!selected.is_empty()).then(|| boxed as f64 / selected.len() as f64)
}
