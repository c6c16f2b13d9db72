//! Random rows of any table, generated from its columns: nulls, empty lists, unusual texts, extreme
//! values.

use arrow_schema::{DataType, Field};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use visplay::ids::Digest;
use visplay::tables::TableRow;

use crate::random::Random;

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

/// Returns the strings of a column that holds an enum.
fn enum_strings(column: &str) -> Option<&'static [&'static str]> {
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

/// Returns `count` rows as JSON.
pub(crate) fn json_rows<R: TableRow>(seed: u64, count: usize) -> Vec<Value> {
    let mut random = Random::new(seed ^ R::TABLE.bytes().map(u64::from).sum::<u64>());
    let schema = R::schema();
    (0..count)
        .map(|_| Value::Object(schema.fields().iter().map(|f| (f.name().clone(), value(&mut random, f))).collect()))
        .collect()
}

/// Returns `count` rows.
pub(crate) fn rows<R: TableRow + DeserializeOwned>(seed: u64, count: usize) -> Vec<R> {
    json_rows::<R>(seed, count).into_iter().map(|row| serde_json::from_value(row).unwrap()).collect()
}

fn value(random: &mut Random, field: &Field) -> Value {
    // An image is declared nullable for some readers, but is never null.
    let holds_nulls = field.is_nullable() && !matches!(field.name().as_str(), "image" | "bytes" | "path");
    if holds_nulls && random.below(4) == 0 {
        return Value::Null;
    }
    typed_value(random, field.name(), field.data_type())
}

fn typed_value(random: &mut Random, name: &str, data_type: &DataType) -> Value {
    match data_type {
        DataType::Boolean => json!(random.below(2) == 0),
        DataType::UInt8 => json!(random.draw() as u8),
        DataType::UInt32 => json!(extreme(random, u64::from(u32::MAX)) as u32),
        DataType::UInt64 => json!(extreme(random, u64::MAX)),
        DataType::Float32 => json!(f64::from(float(random) as f32)),
        DataType::Float64 => json!(float(random)),
        DataType::Binary => json!((0..random.below(40)).map(|_| random.draw() as u8).collect::<Vec<_>>()),
        DataType::Utf8 => json!(text(random, name)),
        DataType::List(item) => {
            let length = [0, 1, 2, 5, 33][random.below(5) as usize];
            (0..length).map(|_| typed_value(random, name, item.data_type())).collect()
        }
        DataType::Struct(fields) => {
            let fields: Map<String, Value> = fields.iter().map(|f| (f.name().clone(), value(random, f))).collect();
            Value::Object(fields)
        }
        other => panic!("no sample of {other}"),
    }
}

fn extreme(random: &mut Random, max: u64) -> u64 {
    match random.below(5) {
        0 => 0,
        1 => max,
        _ => random.below(1000),
    }
}

fn float(random: &mut Random) -> f64 {
    match random.below(6) {
        0 => 0.0,
        1 => 1.0,
        2 => f64::from(f32::MIN_POSITIVE),
        3 => -1.5e30,
        _ => random.draw() as f64 / u64::MAX as f64 - 0.5,
    }
}

fn text(random: &mut Random, name: &str) -> String {
    if let Some(strings) = enum_strings(name) {
        return strings[random.index(strings.len())].to_owned();
    }
    if holds_id(name) {
        return Digest::of(&random.below(50).to_le_bytes()).to_string();
    }
    match random.below(12) {
        10 => "long ".repeat(random.below(300) as usize),
        11 => (0..random.below(20)).map(|_| char::from_u32(random.below(0xd800) as u32).unwrap()).collect(),
        i => TEXTS[i as usize].to_owned(),
    }
}
