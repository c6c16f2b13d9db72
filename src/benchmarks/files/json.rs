//! JSON files: lines, a list, or an object with rows by their ids.

use serde_json::{Map, Value};

use super::cell::{Row, RowError};

/// Column that gets the key of a row in an object of rows, as in MM-Vet's file.
const KEY_COLUMN: &str = "id";

/// Reads rows from a JSON list, from an object with one object a row, or from lines with one object
/// each.
///
/// # Errors
/// The text is none of these.
pub fn read_json(bytes: &[u8]) -> Result<Vec<Row>, RowError> {
    let error = |row, problem: String| RowError { row, column: String::new(), problem };
    let row = |(number, value): (usize, Value)| match value {
        Value::Object(cells) => Ok(Row { number: number as u64 + 1, cells }),
        _ => Err(error(number as u64 + 1, "it is not an object".to_owned())),
    };
    match serde_json::from_slice(bytes) {
        Ok(Value::Array(values)) => return values.into_iter().enumerate().map(row).collect(),
        Ok(Value::Object(rows)) if !rows.is_empty() && rows.values().all(Value::is_object) => {
            return rows.into_iter().map(with_key).enumerate().map(row).collect();
        }
        _ => {}
    }
    let text =
        std::str::from_utf8(bytes).map_err(|e| error(0, format!("the byte at {} is not UTF-8", e.valid_up_to())))?;
    let lines = text.trim_start_matches('\u{feff}').lines().filter(|line| !line.trim().is_empty());
    let parsed = lines.enumerate().map(|(number, line)| {
        let value = serde_json::from_str(line).map_err(|e| error(number as u64 + 1, format!("it is not JSON: {e}")))?;
        row((number, value))
    });
    let rows: Vec<Row> = parsed.collect::<Result<_, _>>()?;
    if rows.is_empty() { Err(error(0, "the file is empty".to_owned())) } else { Ok(rows) }
}

fn with_key((key, value): (String, Value)) -> Value {
    let mut cells: Map<String, Value> = match value {
        Value::Object(cells) => cells,
        _ => Map::new(),
    };
    cells.entry(KEY_COLUMN).or_insert(Value::String(key));
    Value::Object(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_as_a_list_as_lines_or_by_their_ids() {
        let cells = |text: &str| -> Vec<Value> {
            read_json(text.as_bytes()).unwrap().into_iter().map(|row| Value::Object(row.cells)).collect()
        };
        let expected =
            [serde_json::json!({"id": "v1_0", "answer": "a"}), serde_json::json!({"id": "v1_1", "answer": "b"})];
        assert_eq!(cells(r#"[{"id": "v1_0", "answer": "a"}, {"id": "v1_1", "answer": "b"}]"#), expected);
        assert_eq!(cells("{\"id\": \"v1_0\", \"answer\": \"a\"}\n\n{\"id\": \"v1_1\", \"answer\": \"b\"}\n"), expected);
        assert_eq!(cells(r#"{"v1_0": {"answer": "a"}, "v1_1": {"answer": "b"}}"#), expected);
        assert_eq!(cells("{\"id\": 1}").len(), 1);
    }

    #[test]
    fn damage_is_an_error_with_its_row() {
        assert_eq!(read_json(b"[{}, 1]").unwrap_err().to_string(), "row 2, column : it is not an object");
        assert!(
            read_json(b"{\"id\": 1}\n{\"id\"").unwrap_err().to_string().starts_with("row 2, column : it is not JSON")
        );
        assert_eq!(read_json(b"\n").unwrap_err().problem, "the file is empty");
        assert!(read_json(b"\xff").is_err());
    }
}
