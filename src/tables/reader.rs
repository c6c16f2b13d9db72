//! Strict Parquet reader: a file must have exactly its table's columns, with valid values.
//!
//! Rows are streamed: memory is bounded by a batch of rows and a page of each column. Damage is an
//! error, never a panic.

use std::fs::File;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{DataType, FieldRef, Fields};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::ChunkReader;

use super::error::TableError;
use super::row::{Column, TableRow, type_text};
use super::source::{SharedReader, batch_rows, catch_panic, read_metadata};
use crate::input_kind::describe_instead_of_table;
use crate::network_files::unless_stale;

/// Largest number of rows of a batch.
const BATCH_ROWS: u64 = 1024;
/// Approximate size of a batch in bytes.
const BATCH_BYTES: u64 = 8 << 20;

/// A function that opens a row group.
type OpenRowGroup = dyn Fn(&RowGroup) -> Result<ParquetRecordBatchReader, String> + Send;

/// An iterator over the rows of a file.
pub struct TableReader<R: TableRow> {
    file: String,
    row_groups: std::vec::IntoIter<RowGroup>,
    open: Box<OpenRowGroup>,
    /// For each column of `R`, its index in a batch.
    indices: Vec<usize>,
    current: Option<(RowGroup, ParquetRecordBatchReader)>,
    batch: Vec<ArrayRef>,
    batch_rows: usize,
    next_in_batch: usize,
    row: u64,
    row_count: u64,
    is_ended: bool,
    row_type: PhantomData<R>,
}

/// A row group that is not completely read.
#[derive(Clone, Copy)]
struct RowGroup {
    number: usize,
    batch_rows: usize,
    rows_left: u64,
}

impl<R: TableRow> TableReader<R> {
    /// Opens the file at `path`.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        check_path(path)?;
        let name = path.display().to_string();
        match unless_stale(|| File::open(path)) {
            Ok(file) => Self::new(name, file),
            Err(e) => Err(TableError::Open { file: name, problem: e.to_string() }),
        }
    }

    /// Reads from `source`, which is bytes or an open file; `file` is its name in messages.
    pub fn new(file: impl Into<String>, source: impl ChunkReader + 'static) -> Result<Self, TableError> {
        let file = file.into();
        let source = SharedReader(Arc::new(source));
        let metadata = read_metadata(&file, &source)?;
        let columns = R::columns();
        check_columns::<R>(&file, &columns, metadata.schema().fields())?;
        let wanted: Vec<usize> = (metadata.schema().fields().iter().enumerate())
            .filter(|(_, field)| columns.iter().any(|column| column.name == field.name()))
            .map(|(index, _)| index)
            .collect();
        let index_of = |column: &Column| wanted.iter().position(|&i| metadata.schema().field(i).name() == column.name);
        let indices = columns.iter().filter_map(index_of).collect();
        let row_groups: Vec<RowGroup> = (metadata.metadata().row_groups().iter().enumerate())
            .map(|(number, group)| RowGroup {
                number,
                batch_rows: batch_rows(
                    group,
                    u64::try_from(group.total_byte_size()).unwrap_or(0),
                    BATCH_BYTES,
                    BATCH_ROWS,
                ),
                rows_left: u64::try_from(group.num_rows()).unwrap_or(0),
            })
            .collect();
        let row_count = row_groups.iter().map(|group| group.rows_left).sum();
        let mask = ProjectionMask::roots(metadata.parquet_schema(), wanted);
        let open = Box::new(move |group: &RowGroup| {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(source.clone(), metadata.clone())
                .with_row_groups(vec![group.number])
                .with_projection(mask.clone())
                .with_batch_size(group.batch_rows);
            catch_panic(|| builder.build())
        });
        Ok(Self {
            file,
            row_groups: row_groups.into_iter(),
            open,
            indices,
            current: None,
            batch: Vec::new(),
            batch_rows: 0,
            next_in_batch: 0,
            row: 0,
            row_count,
            is_ended: false,
            row_type: PhantomData,
        })
    }

    /// Returns the number of rows according to the footer.
    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    fn next_row(&mut self) -> Result<Option<R>, TableError> {
        while self.next_in_batch == self.batch_rows {
            if !self.next_batch()? {
                return Ok(None);
            }
        }
        let row = R::from_arrays(&self.batch, self.next_in_batch).map_err(|(number, problem)| TableError::Value {
            file: self.file.clone(),
            row: self.row,
            column: R::columns()[number].name.to_owned(),
            problem,
        })?;
        self.next_in_batch += 1;
        self.row += 1;
        Ok(Some(row))
    }

    /// Loads the next batch of rows; returns `false` at the end of the file.
    fn next_batch(&mut self) -> Result<bool, TableError> {
        let Some((mut group, mut batches)) = self.current.take() else {
            let Some(group) = self.row_groups.next() else { return Ok(false) };
            let batches = (self.open)(&group).map_err(|problem| self.damaged(&group, problem))?;
            self.current = Some((group, batches));
            return Ok(true);
        };
        match catch_panic(|| batches.next().transpose()).map_err(|problem| self.damaged(&group, problem))? {
            Some(batch) => {
                let rows = batch.num_rows() as u64;
                group.rows_left = group.rows_left.checked_sub(rows).ok_or_else(|| {
                    self.damaged(&group, format!("more rows than the {} that were announced", self.row_count))
                })?;
                self.batch = self.indices.iter().map(|&index| Arc::clone(batch.column(index))).collect();
                self.batch_rows = batch.num_rows();
                self.next_in_batch = 0;
                self.current = Some((group, batches));
            }
            None if group.rows_left > 0 => {
                return Err(self.damaged(&group, format!("{} rows are missing", group.rows_left)));
            }
            None => {}
        }
        Ok(true)
    }

    fn damaged(&self, group: &RowGroup, problem: String) -> TableError {
        TableError::Damaged { file: self.file.clone(), row_group: Some(group.number), problem }
    }
}

impl<R: TableRow> Iterator for TableReader<R> {
    type Item = Result<R, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_ended {
            return None;
        }
        let row = self.next_row().transpose();
        self.is_ended = !matches!(row, Some(Ok(_)));
        row
    }
}

/// Checks that a path is not a folder, nor the name of a dataset that is not on this machine.
///
/// # Errors
/// [`TableError::Foreign`] or [`TableError::Open`], with what to do instead.
pub fn check_path(path: &Path) -> Result<(), TableError> {
    let file = path.display().to_string();
    match describe_instead_of_table(path) {
        Some(problem) if path.is_dir() => Err(TableError::Foreign { file, problem }),
        Some(problem) if !path.is_file() => Err(TableError::Open { file, problem }),
        _ => Ok(()),
    }
}

/// Reads all rows of the file at `path`.
pub fn read_file<R: TableRow>(path: &Path) -> Result<Vec<R>, TableError> {
    TableReader::open(path)?.collect()
}

/// Reads all rows of `source`; `file` is its name in messages.
pub fn read<R: TableRow>(file: impl Into<String>, source: impl ChunkReader + 'static) -> Result<Vec<R>, TableError> {
    TableReader::new(file, source)?.collect()
}

fn check_columns<R: TableRow>(file: &str, columns: &[Column], found: &Fields) -> Result<(), TableError> {
    let (file, table) = (|| file.to_owned(), R::TABLE);
    for column in columns {
        let name = || column.name.to_owned();
        let expected = type_text(&column.data_type);
        let Some((_, field)) = found.find(column.name) else {
            return Err(TableError::MissingColumn { file: file(), table, column: name(), expected });
        };
        if !have_same_values(&column.data_type, field.data_type()) {
            let found = type_text(field.data_type());
            return Err(TableError::WrongType { file: file(), table, column: name(), expected, found });
        }
    }
    for (index, field) in found.iter().enumerate() {
        let is_known = columns.iter().any(|column| column.name == field.name());
        let is_repeated = found.iter().take(index).any(|other| other.name() == field.name());
        if R::HAS_ALL_COLUMNS && !is_known || is_known && is_repeated {
            return Err(TableError::ExtraColumn { file: file(), table, column: field.name().clone() });
        }
    }
    Ok(())
}

/// Whether two types have the same values. Nullability is ignored and nulls are checked value by
/// value, since other programs declare all columns nullable. They also name list items differently
/// and reorder the fields of structs.
fn have_same_values(expected: &DataType, found: &DataType) -> bool {
    match (expected, found) {
        (DataType::List(a), DataType::List(b)) => have_same_values(a.data_type(), b.data_type()),
        (DataType::Struct(a), DataType::Struct(b)) => {
            let is_there = |field: &FieldRef| {
                b.find(field.name()).is_some_and(|(_, other)| have_same_values(field.data_type(), other.data_type()))
            };
            a.len() == b.len() && a.iter().all(is_there)
        }
        (a, b) => a == b,
    }
}
