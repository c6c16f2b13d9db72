//! Row types of tables: plain Rust structs whose documented fields are the columns.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Metadata, Schema, SchemaRef};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::cell::CellError;
use crate::canonical::to_canonical;
use crate::ids::Digest;

/// A result whose error has the index of the column.
pub(super) type ColumnResult<T> = Result<T, (usize, CellError)>;

/// A row of a table, implemented by the [`table!`](super) macro.
pub trait TableRow: Sized + Send + 'static {
    /// Name of the table.
    const TABLE: &'static str;
    /// Whether the struct has all columns of the table. A view has only some of them and can only
    /// be read.
    const HAS_ALL_COLUMNS: bool;

    /// Returns the description of a row.
    fn doc() -> String;

    /// Returns the columns in the order in which they are stored.
    fn columns() -> Vec<Column>;

    /// Converts `rows` to one array per column.
    fn arrays(rows: &[Self]) -> Vec<ArrayRef>;

    /// Reads row `row` of `arrays`, one per column with the column's type.
    fn from_arrays(arrays: &[ArrayRef], row: usize) -> ColumnResult<Self>;

    /// Returns the size of the row in bytes, which is the same on every machine.
    fn byte_size(&self) -> usize;

    /// Checks that the row may be written.
    fn check(&self) -> ColumnResult<()>;

    /// Returns the Arrow schema, with the columns' documentation as metadata.
    fn schema() -> SchemaRef {
        let fields: Vec<Field> = Self::columns().iter().map(Column::field).collect();
        Arc::new(Schema::new(fields))
    }

    /// Converts `rows` to an Arrow batch.
    fn to_batch(rows: &[Self]) -> Result<RecordBatch, arrow_schema::ArrowError> {
        RecordBatch::try_new(Self::schema(), Self::arrays(rows))
    }

    /// Returns the id of the schema: the digest of the table's name and of each column's name, type
    /// and nullability. Documentation is not included, so that rewording it does not invalidate
    /// results.
    fn schema_id() -> Digest {
        let columns: Vec<Value> = Self::columns().iter().map(Column::identity).collect();
        let bytes = to_canonical(&json!({"table": Self::TABLE, "columns": columns}));
        Digest::derive("visplay 2026 table schema", &[&bytes.expect("strings and booleans have canonical JSON")])
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Name of the column.
    pub name: &'static str,
    /// Arrow type.
    #[serde(rename = "type", serialize_with = "serialize_type")]
    pub data_type: DataType,
    /// Whether the column is declared nullable.
    pub nullable: bool,
    /// Description of its values, with their unit.
    pub doc: String,
}

fn serialize_type<S: Serializer>(data_type: &DataType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&type_text(data_type))
}

impl Column {
    fn field(&self) -> Field {
        Field::new(self.name, self.data_type.clone(), self.nullable)
            .with_metadata(Metadata::from([("description", self.doc.as_str())]))
    }

    fn identity(&self) -> Value {
        json!({"name": self.name, "type": type_text(&self.data_type), "nullable": self.nullable})
    }
}

/// Returns a type as text, such as `list<uint32>` or `struct<bytes: binary, path: string>`; a `?`
/// follows a nullable inner type.
pub fn type_text(data_type: &DataType) -> String {
    let inner =
        |field: &Field| format!("{}{}", type_text(field.data_type()), if field.is_nullable() { "?" } else { "" });
    match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Utf8 => "string".to_owned(),
        DataType::Binary => "binary".to_owned(),
        DataType::List(item) => format!("list<{}>", inner(item)),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|f| format!("{}: {}", f.name(), inner(f))).collect();
            format!("struct<{}>", fields.join(", "))
        }
        other => other.to_string().to_lowercase(),
    }
}

/// Joins the lines of a doc comment.
pub(super) fn doc_text(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Declares a row: a plain struct whose documented fields are the columns.
///
/// `#[table("images")]` declares all columns of the table; `#[view("images")]` declares a struct
/// that reads some of them.
macro_rules! table {
    ($(#[doc = $doc:literal])+ #[table($name:literal)] $($rest:tt)+) => {
        $crate::tables::row::table! { @row true, $name, [$($doc),+] $($rest)+ }
    };
    ($(#[doc = $doc:literal])+ #[view($name:literal)] $($rest:tt)+) => {
        $crate::tables::row::table! { @row false, $name, [$($doc),+] $($rest)+ }
    };
    (@row $whole:literal, $name:literal, [$($doc:literal),+]
        $(#[derive($derive:ident)])? pub struct $row:ident {
            $($(#[doc = $field_doc:literal])+ pub $field:ident: $type:ty,)+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, $($derive,)? serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $row {
            $($(#[doc = $field_doc])+ pub $field: $type,)+
        }

        impl $crate::tables::row::TableRow for $row {
            const TABLE: &'static str = $name;
            const HAS_ALL_COLUMNS: bool = $whole;

            fn doc() -> String {
                $crate::tables::row::doc_text(&[$($doc),+])
            }

            fn columns() -> Vec<$crate::tables::row::Column> {
                vec![$($crate::tables::row::Column {
                    name: stringify!($field),
                    doc: $crate::tables::row::doc_text(&[$($field_doc),+]),
                    data_type: <$type as $crate::tables::cell::Cell>::data_type(),
                    nullable: <$type as $crate::tables::cell::Cell>::DECLARED_NULLABLE,
                }),+]
            }

            fn arrays(rows: &[Self]) -> Vec<arrow_array::ArrayRef> {
                vec![$(<$type as $crate::tables::cell::Cell>::array(&mut rows.iter().map(|row| Some(&row.$field)))),+]
            }

            fn from_arrays(arrays: &[arrow_array::ArrayRef], row: usize) -> $crate::tables::row::ColumnResult<Self> {
                let mut columns = arrays.iter().enumerate();
                Ok(Self {$($field: {
                    let (number, array) = columns.next().expect("an array for each column");
                    $crate::tables::cell::read_cell(array.as_ref(), row).map_err(|e| (number, e))?
                }),+})
            }

            fn byte_size(&self) -> usize {
                0 $(+ $crate::tables::cell::Cell::byte_size(&self.$field))+
            }

            fn check(&self) -> $crate::tables::row::ColumnResult<()> {
                let mut number = 0..;
                $(
                    let column = number.next().expect("counting does not end");
                    $crate::tables::cell::Cell::check(&self.$field).map_err(|e| (column, e))?;
                )+
                Ok(())
            }
        }
    };
}

pub(super) use table;
