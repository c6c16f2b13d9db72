//! Conversion of column values between Rust and Arrow: one [`Cell`] implementation per type.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, ListArray, UInt8Array, UInt32Array, UInt64Array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field};

use crate::ids::{AnswerId, Digest, GroupId, ImageId, ItemId, ModelId, PromptId, QuestionId};

/// A value of a column.
pub trait Cell: Sized + 'static {
    /// Whether the column may hold nulls.
    const NULLABLE: bool = false;
    /// Whether the schema declares the column nullable, which some readers require without nulls.
    const DECLARED_NULLABLE: bool = Self::NULLABLE;

    /// Returns the Arrow type of the column.
    fn data_type() -> DataType;

    /// Builds an array of `cells`; `None` becomes null.
    fn array(cells: &mut dyn Iterator<Item = Option<&Self>>) -> ArrayRef;

    /// Reads the value at `row` of an array of this type, which is not null unless
    /// [`Cell::NULLABLE`].
    fn read(array: &dyn Array, row: usize) -> Result<Self, CellError>;

    /// Returns the size of the value in bytes, which is the same on every machine and determines
    /// where a row group ends.
    fn byte_size(&self) -> usize;

    /// Checks that the value may be written.
    fn check(&self) -> Result<(), CellError> {
        Ok(())
    }
}

/// A value that cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CellError {
    /// A required value is null.
    #[error("it is null, but a value is required")]
    Null,
    /// A float is NaN or infinite; its bits are not the same on every machine.
    #[error("it is {0}; write a number that is not finite as null")]
    NotFinite(String),
    /// A text cannot be parsed as a value of the column.
    #[error("{text:?} is not {expected}")]
    NotA {
        /// The text, truncated to a readable length.
        text: String,
        /// Description of the column's values.
        expected: String,
    },
    /// An item of a list is invalid.
    #[error("item {item}: {problem}")]
    Item {
        /// Index of the item, from 0.
        item: usize,
        /// The problem of the item.
        problem: Box<CellError>,
    },
    /// A row is too large for a row group.
    #[error("the row is {bytes} bytes; at most {limit} can be written")]
    TooLarge {
        /// Size of the row in bytes.
        bytes: usize,
        /// Largest size that can be written, in bytes.
        limit: usize,
    },
}

impl CellError {
    /// Returns the error for a `text` that is not `expected`.
    pub fn not_a(text: &str, expected: impl Into<String>) -> Self {
        let mut text: String = text.chars().take(81).collect();
        if text.chars().count() > 80 {
            text.pop();
            text.push('…');
        }
        Self::NotA { text, expected: expected.into() }
    }
}

/// Reads the value at `row`; a null is an error unless the type is nullable.
pub(super) fn read_cell<T: Cell>(array: &dyn Array, row: usize) -> Result<T, CellError> {
    if !T::NULLABLE && array.is_null(row) {
        return Err(CellError::Null);
    }
    T::read(array, row)
}

impl<T: Cell> Cell for Option<T> {
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        T::data_type()
    }

    fn array(cells: &mut dyn Iterator<Item = Option<&Self>>) -> ArrayRef {
        T::array(&mut cells.map(|cell| cell.and_then(Option::as_ref)))
    }

    fn read(array: &dyn Array, row: usize) -> Result<Self, CellError> {
        if array.is_null(row) { Ok(None) } else { T::read(array, row).map(Some) }
    }

    fn byte_size(&self) -> usize {
        self.as_ref().map_or(1, T::byte_size)
    }

    fn check(&self) -> Result<(), CellError> {
        self.as_ref().map_or(Ok(()), T::check)
    }
}

impl<T: Cell> Cell for Vec<T> {
    fn data_type() -> DataType {
        DataType::List(list_item::<T>())
    }

    fn array(cells: &mut dyn Iterator<Item = Option<&Self>>) -> ArrayRef {
        let lists: Vec<Option<&Vec<T>>> = cells.collect();
        let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.map_or(0, Vec::len)));
        let nulls = NullBuffer::from_iter(lists.iter().map(Option::is_some));
        let items = T::array(&mut lists.iter().flatten().flat_map(|list| list.iter()).map(Some));
        Arc::new(ListArray::new(list_item::<T>(), offsets, items, Some(nulls)))
    }

    fn read(array: &dyn Array, row: usize) -> Result<Self, CellError> {
        let items = array.as_list::<i32>().value(row);
        let item_at = |item| {
            read_cell(items.as_ref(), item).map_err(|problem| CellError::Item { item, problem: Box::new(problem) })
        };
        (0..items.len()).map(item_at).collect()
    }

    fn byte_size(&self) -> usize {
        4 + self.iter().map(T::byte_size).sum::<usize>()
    }

    fn check(&self) -> Result<(), CellError> {
        for (item, cell) in self.iter().enumerate() {
            cell.check().map_err(|problem| CellError::Item { item, problem: Box::new(problem) })?;
        }
        Ok(())
    }
}

/// Returns the field of a list's items, which Parquet names `element`.
fn list_item<T: Cell>() -> Arc<Field> {
    Arc::new(Field::new("element", T::data_type(), T::DECLARED_NULLABLE))
}

/// Implements [`Cell`] for types whose values an Arrow array stores unchanged.
macro_rules! plain_cells {
    ($($type:ty = $array:ty, $data_type:ident, $bytes:literal, |$value:ident| $check:expr;)+) => {$(
        impl Cell for $type {
            fn data_type() -> DataType {
                DataType::$data_type
            }

            fn array(cells: &mut dyn Iterator<Item = Option<&Self>>) -> ArrayRef {
                Arc::new(cells.map(Option::<&$type>::copied).collect::<$array>())
            }

            fn read(array: &dyn Array, row: usize) -> Result<Self, CellError> {
                let array = array.as_any().downcast_ref::<$array>().expect("an array of the column's type");
                let value = array.value(row);
                value.check().map(|()| value)
            }

            fn byte_size(&self) -> usize {
                $bytes
            }

            fn check(&self) -> Result<(), CellError> {
                let $value = self;
                $check
            }
        }
    )+};
}

plain_cells! {
    bool = BooleanArray, Boolean, 1, |_value| Ok(());
    u8 = UInt8Array, UInt8, 1, |_value| Ok(());
    u32 = UInt32Array, UInt32, 4, |_value| Ok(());
    u64 = UInt64Array, UInt64, 8, |_value| Ok(());
    f32 = Float32Array, Float32, 4, |value| finite(value.is_finite(), value);
    f64 = Float64Array, Float64, 8, |value| finite(value.is_finite(), value);
}

fn finite(is_finite: bool, value: &impl ToString) -> Result<(), CellError> {
    if is_finite { Ok(()) } else { Err(CellError::NotFinite(value.to_string())) }
}

/// Implements [`Cell`] for a type that is stored as text: the text of a value, the length of that
/// text in bytes, and the result of parsing a text.
macro_rules! text_cell {
    ($type:ty, |$cell:ident| $text:expr, $length:expr, |$stored:ident| $parsed:expr) => {
        impl $crate::tables::Cell for $type {
            fn data_type() -> arrow_schema::DataType {
                arrow_schema::DataType::Utf8
            }

            fn array(cells: &mut dyn Iterator<Item = Option<&Self>>) -> arrow_array::ArrayRef {
                let texts = cells.map(|cell| cell.map(|$cell| $text));
                std::sync::Arc::new(texts.collect::<arrow_array::StringArray>())
            }

            fn read(array: &dyn arrow_array::Array, row: usize) -> Result<Self, $crate::tables::CellError> {
                let $stored = arrow_array::cast::AsArray::as_string::<i32>(array).value(row);
                $parsed
            }

            fn byte_size(&self) -> usize {
                let $cell = self;
                4 + $length
            }
        }
    };
}

text_cell!(String, |text| text, text.len(), |text| Ok(text.to_owned()));

/// Implements [`Cell`] for digests, which are stored as hexadecimal text so that other programs can
/// join and print them.
macro_rules! digest_cells {
    ($($type:ty = $expected:literal;)+) => {$(
        text_cell!($type, |_id| _id.to_string(), Digest::HEX_LEN, |text| {
            text.parse().map_err(|e| CellError::not_a(text, format!("{}: {e}", $expected)))
        });
    )+};
}

digest_cells! {
    Digest = "a digest";
    ImageId = "an image id";
    PromptId = "a prompt id";
    ModelId = "a model id";
    GroupId = "a group id";
    QuestionId = "a question id";
    AnswerId = "an answer id";
    ItemId = "a benchmark item's id";
}

/// Declares an enum whose variants are stored as strings.
macro_rules! string_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident ($expected:literal) {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All variants, in the order of declaration.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// Returns the stored string.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// Returns the variant that is stored as `text`.
            pub fn from_stored(text: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|variant| variant.as_str() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        $crate::tables::text_cell!($name, |variant| variant.as_str(), variant.as_str().len(), |text| {
            Self::from_stored(text).ok_or_else(|| $crate::tables::CellError::not_a(text, $expected))
        });
    };
}

pub(crate) use string_enum;
pub(crate) use text_cell;
