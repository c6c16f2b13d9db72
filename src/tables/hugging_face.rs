//! The metadata by which Hugging Face `datasets` and their viewer know that a column holds images.

use serde_json::{Map, Value, json};

use super::cell::Cell;
use super::images::ImageFile;
use super::row::{Column, type_text};
use arrow::datatypes::DataType;

/// The key of the Parquet metadata.
pub(super) const METADATA_KEY: &str = "huggingface";

/// The features of all columns, as `datasets` writes them, for a table that holds images; `None` for any other, which
/// needs no help to be understood.
pub(super) fn features(columns: &[Column]) -> Option<String> {
    let is_image = |column: &Column| column.data_type == ImageFile::data_type();
    if !columns.iter().any(is_image) {
        return None;
    }
    let feature = |column: &Column| {
        if is_image(column) { json!({"_type": "Image"}) } else { feature(&column.data_type) }
    };
    let features: Map<String, Value> = columns.iter().map(|c| (c.name.to_owned(), feature(c))).collect();
    Some(json!({"info": {"features": features}}).to_string())
}

fn feature(data_type: &DataType) -> Value {
    match data_type {
        DataType::List(item) => json!({"feature": feature(item.data_type()), "_type": "List"}),
        DataType::Boolean => json!({"dtype": "bool", "_type": "Value"}),
        other => json!({"dtype": type_text(other), "_type": "Value"}),
    }
}
