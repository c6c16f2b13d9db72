//! Search for the column that holds the images.

use arrow_schema::{DataType, Field, Fields};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::schema::types::SchemaDescriptor;
use serde_json::Value;

use super::error::ImportError;
use crate::tables::hugging_face;
use crate::tables::row::type_text;

/// Names by which a plain binary column is recognized as an image column.
const IMAGE_NAMES: [&str; 12] =
    ["image", "images", "img", "imgs", "jpg", "jpeg", "png", "webp", "picture", "photo", "image_bytes", "image_data"];

/// Further names by which a column of paths is recognized as an image column, the surest first.
const PATH_NAMES: [&[&str]; 3] = [
    &["image_path", "image_paths", "img_path", "img_paths", "image_file", "image_files", "image_file_name"],
    &["file_name", "file_names", "filename", "file_path", "filepath", "path", "paths"],
    &["image_url", "image_urls", "img_url", "img_urls"],
];

/// Endings of the names of image files.
const IMAGE_SUFFIXES: [&str; 11] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "heic", "heif", "avif"];

/// A column of images.
#[derive(Debug, Clone)]
pub(super) struct ImageColumn {
    pub(super) name: String,
    /// Index among the top-level columns.
    root: usize,
    pub(super) layout: ColumnLayout,
    /// Whether only its name speaks for images, and is one that paths of any files have.
    pub(super) is_guess: bool,
}

/// The layout of an image column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ColumnLayout {
    /// Binary values.
    Bytes,
    /// Structs with `bytes` and optionally `path`, as the `Image` feature of Hugging Face datasets,
    /// or only with `path`.
    File {
        /// Whether the struct has a field `bytes`.
        has_bytes: bool,
    },
    /// Strings with the paths of image files.
    Path,
    /// Lists of either.
    List(Box<ColumnLayout>),
}

impl ColumnLayout {
    fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::List(item) => match Self::of(item.data_type())? {
                Self::List(_) => None,
                item => Some(Self::List(Box::new(item))),
            },
            DataType::Struct(fields) => match (fields.find("bytes"), fields.find("path")) {
                // A writer that has seen no value may have stored the nulls without a type.
                (Some((_, bytes)), _) if is_binary(bytes.data_type()) || bytes.data_type().is_null() => {
                    Some(Self::File { has_bytes: true })
                }
                (None, Some((_, path))) if *path.data_type() == DataType::Utf8 => Some(Self::File { has_bytes: false }),
                _ => None,
            },
            DataType::Utf8 => Some(Self::Path),
            other => is_binary(other).then_some(Self::Bytes),
        }
    }

    /// Whether images can be stored in the column itself.
    pub(super) fn can_hold_bytes(&self) -> bool {
        matches!(self.item(), Self::Bytes | Self::File { has_bytes: true })
    }

    /// Returns the layout of a single image.
    fn item(&self) -> &Self {
        if let Self::List(item) = self { item.item() } else { self }
    }
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::FixedSizeBinary(_))
}

impl ImageColumn {
    /// Returns the column called `named`, or else searches: first by the metadata of Hugging Face
    /// datasets, then for a struct with `bytes`, then for a binary column with a name typical of
    /// images, then for paths with such a name.
    pub(super) fn find(file: &str, metadata: &ArrowReaderMetadata, named: Option<&str>) -> Result<Self, ImportError> {
        let fields = metadata.schema().fields();
        let columns = || describe_columns(fields);
        let file = || file.to_owned();
        let candidates: Vec<Self> =
            fields.iter().enumerate().filter_map(|(root, field)| Self::of(root, field)).collect();
        if let Some(name) = named {
            let column = candidates.into_iter().find(|column| column.name == name);
            return column.ok_or_else(|| match metadata.schema().field_with_name(name) {
                Ok(field) => {
                    let found = type_text(field.data_type());
                    ImportError::NotImages { file: file(), column: name.to_owned(), found }
                }
                Err(_) => ImportError::UnknownColumn { file: file(), column: name.to_owned(), columns: columns() },
            });
        }
        let features = image_features(metadata);
        let by_feature = |column: &Self| features.contains(&column.name);
        let by_layout = |column: &Self| *column.layout.item() == ColumnLayout::File { has_bytes: true };
        let is_named = |column: &Self, names: &[&str]| names.contains(&column.name.to_lowercase().as_str());
        let by_name = |column: &Self| *column.layout.item() == ColumnLayout::Bytes && is_named(column, &IMAGE_NAMES);
        let [by_path, by_file, by_url] = PATH_NAMES.map(|names| move |column: &Self| is_named(column, names));
        let by_image = |column: &Self| is_named(column, &IMAGE_NAMES);
        let rules: [&dyn Fn(&Self) -> bool; 7] =
            [&by_feature, &by_layout, &by_name, &by_image, &by_path, &by_file, &by_url];
        let guessed = |column: &Self| Self {
            is_guess: by_file(column) && !by_feature(column) && !column.layout.can_hold_bytes(),
            ..column.clone()
        };
        for rule in rules {
            let found: Vec<&Self> = candidates.iter().filter(|column| rule(column)).collect();
            match (&found[..], found.iter().find(|column| column.name == "image")) {
                ([], _) => {}
                ([column], _) | (_, Some(column)) => return Ok(guessed(column)),
                (_, None) => {
                    let names: Vec<&str> = found.iter().map(|column| column.name.as_str()).collect();
                    return Err(ImportError::Ambiguous { file: file(), candidates: names.join(", ") });
                }
            }
        }
        Err(ImportError::NoColumn { file: file(), columns: columns() })
    }

    fn of(root: usize, field: &Field) -> Option<Self> {
        ColumnLayout::of(field.data_type()).map(|layout| Self {
            name: field.name().clone(),
            root,
            layout,
            is_guess: false,
        })
    }

    /// Returns the leaves of the Parquet schema that have to be read.
    pub(super) fn leaves(&self, schema: &SchemaDescriptor) -> Vec<usize> {
        let is_struct = matches!(self.layout.item(), ColumnLayout::File { .. });
        let is_wanted = |leaf: &usize| {
            let parts = schema.column(*leaf).path().parts().to_vec();
            schema.get_column_root_idx(*leaf) == self.root
                && (!is_struct || matches!(parts.last().map(String::as_str), Some("bytes" | "path")))
        };
        (0..schema.num_columns()).filter(is_wanted).collect()
    }
}

/// Whether a path ends like that of an image file.
pub(super) fn has_image_suffix(path: &str) -> bool {
    let suffix = path.rsplit_once('.').map(|(_, suffix)| suffix.to_ascii_lowercase());
    suffix.is_some_and(|suffix| IMAGE_SUFFIXES.contains(&suffix.as_str()))
}

/// Lists columns with their types.
pub(super) fn describe_columns(fields: &Fields) -> String {
    let texts = fields.iter().map(|field| format!("{} ({})", field.name(), type_text(field.data_type())));
    texts.collect::<Vec<_>>().join(", ")
}

/// Returns the columns that Hugging Face metadata declares as images or lists of images.
fn image_features(metadata: &ArrowReaderMetadata) -> Vec<String> {
    let key_values = metadata.metadata().file_metadata().key_value_metadata();
    let text = key_values.into_iter().flatten().find(|entry| entry.key == hugging_face::METADATA_KEY);
    let info: Option<Value> =
        text.and_then(|entry| entry.value.as_deref()).and_then(|text| serde_json::from_str(text).ok());
    let features = info.as_ref().and_then(|info| info.pointer("/info/features")).and_then(Value::as_object);
    let is_image = |feature: &Value| feature["_type"] == "Image";
    let holds_images = |feature: &Value| {
        // A list is [feature] or {"_type": "Sequence" or "List", "feature": ..} by the version.
        is_image(feature) || is_image(&feature["feature"]) || feature.get(0).is_some_and(is_image)
    };
    let named = features.into_iter().flatten().filter(|(_, feature)| holds_images(feature));
    named.map(|(name, _)| name.clone()).collect()
}
