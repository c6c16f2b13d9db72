//! Metadata that tells Hugging Face `datasets` and its viewer which column holds images.

use serde::{Serialize, Serializer};

use super::cell::Cell;
use super::images::ImageFile;
use super::row::{Column, type_text};
use arrow_schema::DataType;

/// Key of the Parquet metadata.
pub(super) const METADATA_KEY: &str = "huggingface";

/// Returns the features of all columns as `datasets` writes them for a table that holds images;
/// `None` for other tables, which need no metadata.
pub(super) fn features(columns: &[Column]) -> Option<String> {
    let features: Vec<(&str, Feature)> = columns.iter().map(|c| (c.name, Feature::of(&c.data_type))).collect();
    let holds_images = features.iter().any(|(_, feature)| matches!(feature, Feature::Image));
    let features = serde_json::to_string(&OrderedFeatures(features)).expect("names and types have JSON");
    holds_images.then(|| format!(r#"{{"info":{{"features":{features}}}}}"#))
}

/// A map that keeps the order of the columns, which is part of the file's bytes.
struct OrderedFeatures<'a>(Vec<(&'a str, Feature)>);

impl Serialize for OrderedFeatures<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, feature)| (name, feature)))
    }
}

#[derive(Serialize)]
#[serde(tag = "_type")]
enum Feature {
    Image,
    Value { dtype: String },
    List { feature: Box<Feature> },
}

impl Feature {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::List(item) => Self::List { feature: Box::new(Self::of(item.data_type())) },
            DataType::Boolean => Self::Value { dtype: "bool".to_owned() },
            image if *image == ImageFile::data_type() => Self::Image,
            other => Self::Value { dtype: type_text(other) },
        }
    }
}
