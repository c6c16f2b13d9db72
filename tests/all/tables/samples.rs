//! Sample rows of every table, made from a seed and the table's own columns: nulls, empty lists, odd texts, extremes.

use arrow::datatypes::{DataType, Field};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use visplay::ids::Digest;
use visplay::tables::TableRow;

/// Numbers from a seed (splitmix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

const TEXTS: [&str; 10] = [
    "",
    "How many red circles are there?",
    "wie viele rote Kreise gibt es? — 四つ \u{1f534}",
    "<think>2 + 2</think> \\boxed{4}",
    "\"quoted\", 'and' \\ back\\slash",
    "line\nbreak\ttab\r\n",
    "\u{0}\u{1}\u{7f}\u{feff}\u{202e}",
    "e\u{301} is not \u{e9}",
    "NULL",
    "NaN",
];

/// The words of the columns that hold an enum.
fn words(column: &str) -> Option<&'static [&'static str]> {
    Some(match column {
        "finish" => &["stop", "stop_string", "length"],
        "question_type" => &["multiple choice", "numerical", "regression"],
        "verdict" => &["answered", "tie", "false_premise", "ambiguous", "unknown", "no_scene"],
        "role" => &["questioner", "reasoner"],
        _ => return None,
    })
}

fn holds_id(column: &str) -> bool {
    column.ends_with("_id") || column.ends_with("_ids")
}

/// `count` rows as JSON.
pub(crate) fn json_rows<R: TableRow>(seed: u64, count: usize) -> Vec<Value> {
    let mut numbers = Numbers(seed ^ R::TABLE.bytes().map(u64::from).sum::<u64>());
    let schema = R::schema();
    (0..count)
        .map(|_| Value::Object(schema.fields().iter().map(|f| (f.name().clone(), value(&mut numbers, f))).collect()))
        .collect()
}

/// `count` rows.
pub(crate) fn rows<R: TableRow + DeserializeOwned>(seed: u64, count: usize) -> Vec<R> {
    json_rows::<R>(seed, count).into_iter().map(|row| serde_json::from_value(row).unwrap()).collect()
}

fn value(numbers: &mut Numbers, field: &Field) -> Value {
    // An image is declared nullable for the sake of its readers, and is never null.
    let holds_nulls = field.is_nullable() && !matches!(field.name().as_str(), "image" | "bytes" | "path");
    if holds_nulls && numbers.below(4) == 0 {
        return Value::Null;
    }
    typed_value(numbers, field.name(), field.data_type())
}

fn typed_value(numbers: &mut Numbers, name: &str, data_type: &DataType) -> Value {
    match data_type {
        DataType::Boolean => json!(numbers.below(2) == 0),
        DataType::UInt8 => json!(numbers.next() as u8),
        DataType::UInt32 => json!(extreme(numbers, u64::from(u32::MAX)) as u32),
        DataType::UInt64 => json!(extreme(numbers, u64::MAX)),
        DataType::Float32 => json!(f64::from(float(numbers) as f32)),
        DataType::Float64 => json!(float(numbers)),
        DataType::Binary => json!((0..numbers.below(40)).map(|_| numbers.next() as u8).collect::<Vec<_>>()),
        DataType::Utf8 => json!(text(numbers, name)),
        DataType::List(item) => {
            let length = [0, 1, 2, 5, 33][numbers.below(5) as usize];
            (0..length).map(|_| typed_value(numbers, name, item.data_type())).collect()
        }
        DataType::Struct(fields) => {
            let fields: Map<String, Value> = fields.iter().map(|f| (f.name().clone(), value(numbers, f))).collect();
            Value::Object(fields)
        }
        other => panic!("no sample of {other}"),
    }
}

fn extreme(numbers: &mut Numbers, most: u64) -> u64 {
    match numbers.below(5) {
        0 => 0,
        1 => most,
        _ => numbers.below(1000),
    }
}

fn float(numbers: &mut Numbers) -> f64 {
    match numbers.below(6) {
        0 => 0.0,
        1 => 1.0,
        2 => f64::from(f32::MIN_POSITIVE),
        3 => -1.5e30,
        _ => numbers.next() as f64 / u64::MAX as f64 - 0.5,
    }
}

fn text(numbers: &mut Numbers, name: &str) -> String {
    if let Some(words) = words(name) {
        return words[numbers.below(words.len() as u64) as usize].to_owned();
    }
    if holds_id(name) {
        return Digest::of(&numbers.below(50).to_le_bytes()).to_string();
    }
    match numbers.below(12) {
        10 => "long ".repeat(numbers.below(300) as usize),
        11 => (0..numbers.below(20)).map(|_| char::from_u32(numbers.below(0xd800) as u32).unwrap()).collect(),
        i => TEXTS[i as usize].to_owned(),
    }
}
