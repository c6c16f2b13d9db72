//! Tab-separated files with quotes, as pandas writes and reads them.

use serde_json::{Map, Value};

use super::cell::{Row, RowError};

/// Texts that pandas takes for a missing cell, besides the empty one.
const MISSING: [&str; 18] = [
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
];

/// Reads a tab-separated file with a header. Fields may be quoted, hold tabs and line ends between
/// quotes, and have quotes doubled. A quote inside an unquoted field is part of it. Cells that
/// pandas takes for missing are left out; so VLMEvalKit knows no option whose text is "None". Names
/// of columns are lower-cased, except for single capitals.
///
/// # Errors
/// The text is not UTF-8, a quote is not closed, a row has more fields than the header, or two
/// columns have the same name.
pub fn read_tsv(bytes: &[u8]) -> Result<Vec<Row>, RowError> {
    let error =
        |row, column: &str, problem: &str| RowError { row, column: column.to_owned(), problem: problem.to_owned() };
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let before = &bytes[..e.valid_up_to()];
        let row = before.iter().filter(|&&byte| byte == b'\n').count() as u64;
        error(row, "", &format!("the byte at {} is not UTF-8", e.valid_up_to()))
    })?;
    let mut records = Records { rest: text.strip_prefix('\u{feff}').unwrap_or(text) };
    let header = match records.next() {
        None => return Err(error(0, "", "the file is empty")),
        Some(record) => record.ok_or_else(|| error(0, "", "a quote is not closed"))?,
    };
    let columns: Vec<String> = header.into_iter().map(|field| column_name(&field)).collect();
    if let Some((_, twice)) = columns.iter().enumerate().find(|(at, name)| columns[..*at].contains(name)) {
        return Err(error(0, twice, "two columns have this name"));
    }
    let mut rows = Vec::new();
    while let Some(record) = records.next() {
        let number = rows.len() as u64 + 1;
        let fields = record.ok_or_else(|| error(number, "", "a quote is not closed"))?;
        if fields.len() > columns.len() {
            let problem = format!("the row has {} fields, the header has {}", fields.len(), columns.len());
            return Err(error(number, "", &problem));
        }
        let cells = columns.iter().zip(fields).filter(|(_, field)| !is_missing(field));
        let cells: Map<String, Value> = cells.map(|(name, field)| (name.clone(), field.into())).collect();
        rows.push(Row { number, cells });
    }
    Ok(rows)
}

fn column_name(field: &str) -> String {
    let is_option = field.len() == 1 && field.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_option { field.to_owned() } else { field.to_lowercase() }
}

fn is_missing(field: &str) -> bool {
    field.is_empty() || MISSING.contains(&field)
}

struct Records<'a> {
    rest: &'a str,
}

impl Records<'_> {
    /// Returns the fields of the next row that is not blank. `None` in it means that a quote is not
    /// closed.
    fn next(&mut self) -> Option<Option<Vec<String>>> {
        self.rest = self.rest.trim_start_matches(['\n', '\r']);
        if self.rest.is_empty() {
            return None;
        }
        let mut fields = Vec::new();
        loop {
            let Some(field) = self.field() else {
                self.rest = "";
                return Some(None);
            };
            fields.push(field);
            if let Some(rest) = self.rest.strip_prefix('\t') {
                self.rest = rest;
                continue;
            }
            let rest = self.rest;
            self.rest = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix(['\n', '\r'])).unwrap_or(rest);
            return Some(Some(fields));
        }
    }

    /// Reads a field up to its separator, which stays.
    fn field(&mut self) -> Option<String> {
        let mut field = String::new();
        if let Some(mut quoted) = self.rest.strip_prefix('"') {
            loop {
                let (part, after) = quoted.split_once('"')?;
                field.push_str(part);
                match after.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        quoted = more;
                    }
                    None => {
                        self.rest = after;
                        break;
                    }
                }
            }
        }
        let end = self.rest.find(['\t', '\n', '\r']).unwrap_or(self.rest.len());
        field.push_str(&self.rest[..end]);
        self.rest = &self.rest[end..];
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> Vec<Value> {
        read_tsv(text.as_bytes()).unwrap().into_iter().map(|row| Value::Object(row.cells)).collect()
    }

    #[test]
    fn quotes_tabs_and_line_ends_are_read_as_pandas_writes_them() {
        let text =
            "Index\tquestion\tA\tL2-Category\n1\t\"two\nlines\tand \"\"quotes\"\"\"\tx\"y\tz\n\n2\tq\t\"\"\t\"a\"b\r\n";
        assert_eq!(
            cells(text),
            [
                serde_json::json!({"index": "1", "question": "two\nlines\tand \"quotes\"", "A": "x\"y", "l2-category": "z"}),
                serde_json::json!({"index": "2", "question": "q", "l2-category": "ab"}),
            ]
        );
        assert_eq!(cells("index\n1").len(), 1);
    }

    #[test]
    fn an_option_none_is_missing_as_in_pandas() {
        assert_eq!(cells("A\tB\tC\tD\nNone\tnone\tN/A\t0\n"), [serde_json::json!({"B": "none", "D": "0"})]);
    }

    #[test]
    fn damage_is_an_error_with_its_row() {
        for (text, message) in [
            (&b""[..], "row 0, column : the file is empty"),
            (b"a\tA\n1\t2\t3\n", "row 1, column : the row has 3 fields, the header has 2"),
            (b"a\n1\n\"2\n", "row 2, column : a quote is not closed"),
            (b"a\tb\ta\n", "row 0, column a: two columns have this name"),
            (b"a\n\xff\n", "row 1, column : the byte at 2 is not UTF-8"),
        ] {
            assert_eq!(read_tsv(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn fields_of_30_megabytes_are_read() {
        let text = format!("index\timage\n1\t{}\n2\t\"{}\"\n", "A".repeat(30_000_000), "\"\"".repeat(1_000_000));
        let rows = read_tsv(text.as_bytes()).unwrap();
        assert_eq!(rows[0].cells["image"].as_str().unwrap().len(), 30_000_000);
        assert_eq!(rows[1].cells["image"].as_str().unwrap().len(), 1_000_000);
    }
}
