//! Columns of texts, whatever type a program has stored them in.
//!
//! | type | text |
//! |---|---|
//! | string, or binary that is UTF-8 | as it is |
//! | integer | decimal digits |
//! | float | the shortest decimal number that gives the same float: `3`, `0.1`, `1e300` |
//! | boolean | `True` or `False` |
//! | decimal | all digits of its scale: `12.50` |
//! | list of one of these | that of its only item |

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field};

use super::column::describe_columns;
use super::error::ImportError;
use super::file::ImportTable;
use crate::tables::row::type_text;
use crate::tables::source::catch_panic;

/// A text of a row: `None` for a null, or why the value has no text.
pub type Text = Result<Option<String>, String>;

impl ImportTable {
    /// Returns the names of the columns with their types, for messages.
    pub fn columns(&self) -> String {
        describe_columns(self.metadata.schema().fields())
    }

    /// Whether the file has a column, or a field of a struct under its names with `.` between.
    pub fn has_column(&self, column: &str) -> bool {
        self.find(column).is_some()
    }

    /// Reads the texts of the first `limit` rows of a column, or of a field of a struct, such as
    /// `reward_model.ground_truth`.
    ///
    /// # Errors
    /// There is no such column, its values have no text, or the file is damaged.
    pub fn texts(&self, column: &str, limit: u64) -> Result<Vec<Text>, ImportError> {
        let (file, name) = (self.name.to_string(), column.to_owned());
        let Some((path, field)) = self.find(column) else {
            return Err(ImportError::UnknownColumn { file, column: name, columns: self.columns() });
        };
        if !has_text(field.data_type()) {
            return Err(ImportError::NotTexts { file, column: name, found: type_text(field.data_type()) });
        }
        let schema = self.metadata.parquet_schema();
        let is_below = |leaf: &usize| schema.column(*leaf).path().parts().starts_with(&path);
        let leaves: Vec<usize> = (0..schema.num_columns()).filter(is_below).collect();
        let mut texts = Vec::new();
        for span in self.spans(0..limit) {
            let mut batches = self.open_span(&span, &leaves)?;
            let mut missing = span.end_row - span.next_row;
            let damaged = |problem| self.damaged(span.row_group, problem);
            let mut next = || batches.next().transpose();
            while let Some(batch) = catch_panic(&mut next).map_err(damaged)? {
                let rows = batch.num_rows() as u64;
                missing =
                    missing.checked_sub(rows).ok_or_else(|| damaged("it has more rows than its footer says".into()))?;
                let lost = || damaged("the column is not what its schema says".into());
                let array = batch.columns().first().ok_or_else(lost)?;
                let read = || texts_at(array, &path[1..]).ok_or("the column is not what its schema says");
                texts.extend(catch_panic(read).map_err(damaged)?);
            }
            if missing > 0 {
                return Err(damaged(format!("{missing} rows are missing")));
            }
        }
        Ok(texts)
    }

    /// Returns the path and the field of a column.
    fn find(&self, column: &str) -> Option<(Vec<String>, &Field)> {
        let fields = self.metadata.schema().fields();
        if let Some((_, field)) = fields.find(column) {
            return Some((vec![column.to_owned()], field));
        }
        let path: Vec<String> = column.split('.').map(str::to_owned).collect();
        let (_, mut field) = fields.find(&path[0])?;
        for name in &path[1..] {
            let DataType::Struct(fields) = field.data_type() else { return None };
            field = fields.find(name)?.1;
        }
        Some((path, field))
    }
}

/// Whether values of a type have a text.
fn has_text(data_type: &DataType) -> bool {
    use DataType::{Binary, Boolean, Decimal128, Decimal256, Float16, Float32, Float64, List, Null, Utf8};
    match data_type {
        List(item) => !matches!(item.data_type(), List(_)) && has_text(item.data_type()),
        Utf8 | Binary | Boolean | Null | Float16 | Float32 | Float64 | Decimal128(..) | Decimal256(..) => true,
        other => other.is_integer(),
    }
}

/// Returns the texts of all rows of the field at `path` below `array`; `None` if it has no such
/// field.
fn texts_at(array: &ArrayRef, path: &[String]) -> Option<Vec<Text>> {
    let Some((name, rest)) = path.split_first() else {
        return Some((0..array.len()).map(|row| text_at(array.as_ref(), row)).collect());
    };
    let parent = array.as_struct_opt()?;
    let mut texts = texts_at(parent.column_by_name(name)?, rest)?;
    texts.iter_mut().enumerate().filter(|(row, _)| parent.is_null(*row)).for_each(|(_, text)| *text = Ok(None));
    Some(texts)
}

fn text_at(array: &dyn Array, row: usize) -> Text {
    if array.is_null(row) {
        return Ok(None);
    }
    let text = match array.data_type() {
        DataType::Null => return Ok(None),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => match std::str::from_utf8(array.as_binary::<i32>().value(row)) {
            Ok(text) => text.to_owned(),
            Err(_) => return Err("its bytes are not UTF-8".to_owned()),
        },
        DataType::Boolean => if array.as_boolean().value(row) { "True" } else { "False" }.to_owned(),
        DataType::Int8 => integer::<Int8Type>(array, row),
        DataType::Int16 => integer::<Int16Type>(array, row),
        DataType::Int32 => integer::<Int32Type>(array, row),
        DataType::Int64 => integer::<Int64Type>(array, row),
        DataType::UInt8 => integer::<UInt8Type>(array, row),
        DataType::UInt16 => integer::<UInt16Type>(array, row),
        DataType::UInt32 => integer::<UInt32Type>(array, row),
        DataType::UInt64 => integer::<UInt64Type>(array, row),
        DataType::Float16 => float(array.as_primitive::<Float16Type>().value(row).to_f32())?,
        DataType::Float32 => float(array.as_primitive::<Float32Type>().value(row))?,
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row))?,
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Decimal256(..) => array.as_primitive::<Decimal256Type>().value_as_string(row),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            return match items.len() {
                0 => Ok(None),
                1 => text_at(items.as_ref(), 0),
                n => Err(format!("it is a list of {n} values, not of one")),
            };
        }
        other => return Err(format!("its type is {}", type_text(other))),
    };
    Ok(Some(text))
}

fn integer<T: ArrowPrimitiveType<Native: ToString>>(array: &dyn Array, row: usize) -> String {
    array.as_primitive::<T>().value(row).to_string()
}

/// Returns the shortest text of a float, in scientific notation if it is very large or small.
fn float<F: Copy + Into<f64> + std::fmt::Display + std::fmt::LowerExp>(value: F) -> Result<String, String> {
    let magnitude = value.into().abs();
    match magnitude {
        0.0 => Ok("0".to_owned()),
        _ if !magnitude.is_finite() => Err(format!("it is {value}")),
        1e-6..1e16 => Ok(value.to_string()),
        _ => Ok(format!("{value:e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_have_their_shortest_text() {
        assert_eq!(float(3.0_f64), Ok("3".to_owned()));
        assert_eq!(float(0.1_f32), Ok("0.1".to_owned()));
        assert_eq!(float(-2.5_f64), Ok("-2.5".to_owned()));
        assert_eq!(float(-0.0_f64), Ok("0".to_owned()));
        assert_eq!(float(1e300_f64), Ok("1e300".to_owned()));
        assert!(float(f64::NAN).is_err() && float(f32::INFINITY).is_err());
    }
}
