//! Conversion of column values between Rust and Arrow: one [`Cell`] implementation per type.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, UInt8Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, ListArray, PrimitiveArray, StringArray};
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

impl Cell for bool {
    fn data_type() -> DataType {
        DataType::Boolean
    }

    fn array(cells: &mut dyn Iterator<Item = Option<&Self>>) -> ArrayRef {
        Arc::new(BooleanArray::from_iter(cells.map(Option::<&bool>::copied)))
    }

    fn read(array: &dyn Array, row: usize) -> Result<Self, CellError> {
        Ok(array.as_boolean().value(row))
    }

    fn byte_size(&self) -> usize {
        1
    }
}

impl Cell for String {
    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn array(cells: &mut dyn Iterator<Item = Option<&Self>>) -> ArrayRef {
        Arc::new(StringArray::from_iter(cells))
    }

    fn read(array: &dyn Array, row: usize) -> Result<Self, CellError> {
        Ok(array.as_string::<i32>().value(row).to_owned())
    }

    fn byte_size(&self) -> usize {
        4 + self.len()
    }
}

/// Implements [`Cell`] for numbers, which are stored unchanged.
macro_rules! number_cells {
    ($($type:ty = $arrow:ty, $bytes:literal, |$value:ident| $check:expr;)+) => {$(
        impl Cell for $type {
            fn data_type() -> DataType {
                <$arrow as arrow_array::ArrowPrimitiveType>::DATA_TYPE
            }

            fn array(cells: &mut dyn Iterator<Item = Option<&Self>>) -> ArrayRef {
                Arc::new(PrimitiveArray::<$arrow>::from_iter(cells.map(Option::<&$type>::copied)))
            }

            fn read(array: &dyn Array, row: usize) -> Result<Self, CellError> {
                let value = array.as_primitive::<$arrow>().value(row);
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

number_cells! {
    u8 = UInt8Type, 1, |_value| Ok(());
    u32 = UInt32Type, 4, |_value| Ok(());
    u64 = UInt64Type, 8, |_value| Ok(());
    f32 = Float32Type, 4, |value| finite(value.is_finite(), value);
    f64 = Float64Type, 8, |value| finite(value.is_finite(), value);
}

fn finite(is_finite: bool, value: &impl ToString) -> Result<(), CellError> {
    if is_finite { Ok(()) } else { Err(CellError::NotFinite(value.to_string())) }
}

/// Implements [`Cell`] for digests, which are stored as hexadecimal text so that other programs can
/// join and print them.
macro_rules! digest_cells {
    ($($type:ty = $expected:literal;)+) => {$(
        impl Cell for $type {
            fn data_type() -> DataType {
                DataType::Utf8
            }

            fn array(cells: &mut dyn Iterator<Item = Option<&Self>>) -> ArrayRef {
                Arc::new(StringArray::from_iter(cells.map(|cell| cell.map(|id| id.to_string()))))
            }

            fn read(array: &dyn Array, row: usize) -> Result<Self, CellError> {
                let text = array.as_string::<i32>().value(row);
                text.parse().map_err(|e| CellError::not_a(text, format!("{}: {e}", $expected)))
            }

            fn byte_size(&self) -> usize {
                4 + Digest::HEX_LEN
            }
        }
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
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the stored string.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl $crate::tables::cell::Cell for $name {
            fn data_type() -> arrow_schema::DataType {
                arrow_schema::DataType::Utf8
            }

            fn array(cells: &mut dyn Iterator<Item = Option<&Self>>) -> arrow_array::ArrayRef {
                std::sync::Arc::new(arrow_array::StringArray::from_iter(cells.map(|cell| cell.map(|c| c.as_str()))))
            }

            fn read(array: &dyn arrow_array::Array, row: usize) -> Result<Self, $crate::tables::cell::CellError> {
                let text = arrow_array::cast::AsArray::as_string::<i32>(array).value(row);
                let variant = Self::ALL.iter().find(|variant| variant.as_str() == text);
                variant.copied().ok_or_else(|| $crate::tables::cell::CellError::not_a(text, $expected))
            }

            fn byte_size(&self) -> usize {
                4 + self.as_str().len()
            }
        }
    };
}

pub(super) use string_enum;
