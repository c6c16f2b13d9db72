//! Answers in the files that other programs score.

use serde_json::{Map, Value};

use crate::benchmarks::item::{BenchmarkItem, QuestionKind};

/// Returns VLMEvalKit's tab-separated file of predictions: `index` and `prediction`.
pub fn vlmevalkit_predictions<'a>(answers: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let rows = answers.into_iter().map(|(index, response)| format!("{}\t{}\n", quoted(index), quoted(response)));
    "index\tprediction\n".to_owned() + &rows.collect::<String>()
}

/// Quotes a field that a reader could take for several, for another one or for a missing one.
fn quoted(field: &str) -> String {
    let needs_quotes = field.is_empty() || field.contains(['\t', '\n', '\r', '"']);
    if needs_quotes { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

/// Returns MMMU's submission: letters of choices and responses to open questions, by official id.
/// Items without an id cannot be submitted and are left out; an item without an extracted letter
/// has an empty text.
pub fn mmmu_submission<'a>(
    answers: impl IntoIterator<Item = (&'a BenchmarkItem, Option<&'a str>, &'a str)>,
) -> Map<String, Value> {
    let answer = |(item, extracted, response): (&BenchmarkItem, Option<&str>, &str)| {
        let text = match item.kind {
            QuestionKind::MultipleChoice => extracted.unwrap_or_default(),
            _ => response,
        };
        Some((item.official_id.clone()?, Value::from(text)))
    };
    answers.into_iter().filter_map(answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::files::{Layout, parse_item, read_json, read_tsv};
    use crate::benchmarks::name::Benchmark;

    #[test]
    fn predictions_are_read_back() {
        let answers = [("1", "B"), ("2", "two\nlines\tand \"quotes\""), ("3", "")];
        let rows = read_tsv(vlmevalkit_predictions(answers).as_bytes()).unwrap();
        for (row, (index, response)) in rows.iter().zip(answers) {
            assert_eq!(row.text("index").unwrap().as_deref(), Some(index));
            assert_eq!(row.text("prediction").unwrap().unwrap_or_default(), response);
        }
        assert_eq!(rows.len(), 3);
    }

    #[test]
    fn submissions_have_letters_and_texts() {
        let json = br#"[{"id": "test_Art_1", "question": "q", "options": "['a', 'b']", "answer": "?", "question_type": "multiple-choice"},
            {"id": "test_Art_2", "question": "q", "options": "[]", "answer": "?", "question_type": "open"}]"#;
        let rows = read_json(json).unwrap();
        let items: Vec<BenchmarkItem> =
            rows.iter().map(|row| parse_item(row, Layout::Official(Benchmark::Mmmu)).unwrap().item).collect();
        let submission = mmmu_submission([(&items[0], Some("B"), "It is B."), (&items[1], Some("15"), "It is 15.")]);
        assert_eq!(Value::Object(submission), serde_json::json!({"test_Art_1": "B", "test_Art_2": "It is 15."}));
    }
}
